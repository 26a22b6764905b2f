// The decoder of assistant-ui, which reads the stream of the AI SDK.

import { AssistantMessageAccumulator, UIMessageStreamDecoder } from "assistant-stream";

import { PIXEL } from "./common.mjs";

export async function run(command, result) {
  const abort = new AbortController();
  const parts = [{ type: "text", text: command.text }];
  if (command.act === "image") parts.push({ type: "file", mediaType: "image/png", url: PIXEL });
  const response = await fetch(`${command.base}${command.path}`, {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      ...command.headers,
      ...(command.key && { Authorization: `Bearer ${command.key}` }),
      ...(command.idempotency && { "Idempotency-Key": crypto.randomUUID() }),
    },
    body: JSON.stringify({
      id: crypto.randomUUID(),
      trigger: "submit-message",
      messages: [{ id: "m1", role: "user", parts }],
      ...command.body,
    }),
    signal: abort.signal,
  });
  if (!response.ok) {
    result.status = response.status;
    throw Object.assign(new Error(await response.text()), { status: response.status });
  }
  const messages = response.body
    .pipeThrough(new UIMessageStreamDecoder())
    .pipeThrough(new AssistantMessageAccumulator());
  try {
    for await (const message of messages) {
      const of = (type) => message.parts.filter((part) => part.type === type);
      result.text = of("text").map((part) => part.text).join("");
      result.reasoning = of("reasoning").map((part) => part.text).join("");
      result.calls = of("tool-call").map((part) => [part.toolName, part.args]);
      result.sources = of("source").map((part) => part.url);
      result.finish = message.status?.reason ?? null;
      const failure = message.status?.error;
      if (failure) result.error = failure.message ?? failure.errorText ?? JSON.stringify(failure);
      if (command.act === "stop" && result.text) {
        abort.abort();
        return;
      }
    }
  } catch (error) {
    if (command.act !== "stop") throw error;
  }
}
