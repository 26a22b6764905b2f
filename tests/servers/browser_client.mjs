// Reads a stream as chat-nest's browser client does: fetch, TextDecoder, blocks that end with two
// LF, lines that begin with "event:" and "data:", JSON.parse of a token's data. Prints what came.
//
//     node browser_client.mjs URL

const seen = { status: 0, text: "", started: 0, pings: 0, done: 0, error: null, blocks: [] };

const response = await fetch(process.argv[2], {
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify({ messages: [{ id: "1", role: "user", content: "Hi" }] }),
});
seen.status = response.status;

if (!response.ok) {
  seen.error = await response.json();
} else {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    buffer += decoder.decode(value, { stream: true });
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop() ?? "";
    for (const block of blocks) take(block);
  }
}
process.stdout.write(JSON.stringify(seen));

function take(block) {
  let event = "";
  let data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice("event:".length).trim();
    if (line.startsWith("data:")) data = line.slice("data:".length).trim();
  }
  seen.blocks.push(event);
  if (event === "start") seen.started += 1;
  if (event === "ping") seen.pings += 1;
  if (event === "done") seen.done += 1;
  if (event === "token") seen.text += JSON.parse(data);
  if (event === "error") seen.error = JSON.parse(data);
}
