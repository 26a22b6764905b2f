// assistant-ui's reader of the stream, without React: what its runtimes make of an answer.
//
//     node decoder.mjs --modules DIR --api URL WORD...
//
// Prints one line of JSON for each word, which is the message that is sent.

import { load, options, print } from "./packages.mjs";

const { modules, api, words } = options(process.argv.slice(2));
const { AssistantMessageAccumulator, UIMessageStreamDecoder } = await load(modules, "assistant-stream");

const tools = { weather: { parameters: { type: "object" } } };

for (const [number, word] of words.entries()) {
  const message = { id: `m${number}`, role: "user", parts: [{ type: "text", text: word }] };
  const response = await fetch(api, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ id: `decoder-${number}`, messages: [message], tools }),
  });
  const found = { scenario: word, package: "assistant-stream", status: response.status, data: [] };
  found.version = response.headers.get("x-vercel-ai-ui-message-stream");
  try {
    const onData = (part) => found.data.push(part);
    const stream = response.body
      .pipeThrough(new UIMessageStreamDecoder({ onData }))
      .pipeThrough(new AssistantMessageAccumulator());
    for await (const part of stream) found.message = part;
  } catch (error) {
    found.thrown = error.message;
  }
  print(found);
}
process.exit(0);
