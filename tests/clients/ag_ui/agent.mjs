// One scenario of an HttpAgent, for @ag-ui/client 1.0.0 and 0.0.59.
//
//     cd FOLDER_WITH_NODE_MODULES && node .../agent.mjs URL SCENARIO [TOKEN]
//
// URL is that of the AG-UI endpoint. The package comes from the current folder. Each line on stdout
// is a JSON object: {"event"} for each event that the client hands on, {"ended"} after a run, with
// what an application has then, and {"unhandled"} for a rejection that nobody catches.

import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.cwd(), "index.js"));
const { HttpAgent } = require("@ag-ui/client");
const { version } = require("@ag-ui/client/package.json");

const [url, scenario, token] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

console.error = console.warn = (...words) => say({ warning: words.map(String).join(" ") });
process.on("unhandledRejection", (error) => say({ unhandled: String(error) }));

const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
const WEATHER = {
  name: "weather",
  description: "The weather of a city.",
  parameters: { type: "object", properties: { city: { type: "string" } } },
};

const agent = new HttpAgent({
  url,
  threadId: `thread-${scenario}`,
  headers: token ? { Authorization: `Bearer ${token}` } : {},
});
let messages = 0;

const ask = (content) => agent.addMessage({ id: `user-${++messages}`, role: "user", content });

/** Run the agent once. `seen` gets each event as it arrives. */
async function run(parameters = {}, seen = () => {}) {
  const ended = { scenario, version, errors: [] };
  const subscriber = {
    onEvent: ({ event }) => {
      const { rawEvent, ...plain } = event;
      say({ event: plain });
      seen(event);
    },
    onRunErrorEvent: ({ event }) => {
      ended.errors.push({ message: event.message, code: event.code, metadata: event.metadata });
    },
    onRunFinishedEvent: ({ event }) => {
      ended.finished = { result: event.result, outcome: event.outcome, usage: event.usage };
    },
  };
  try {
    const { result, newMessages } = await agent.runAgent(parameters, subscriber);
    Object.assign(ended, { resolved: true, result, newMessages });
  } catch (error) {
    ended.rejected = { message: String(error), status: error.status, payload: error.payload };
  }
  say({ ended: { ...ended, messages: agent.messages } });
  return ended;
}

const scenarios = {
  /** One question, one answer, then another one in the same thread. */
  async text() {
    ask("text");
    await run();
    ask("text again");
    await run();
  },

  /** Thinking, which the second run returns with its encrypted value. */
  async reasoning() {
    ask("reasoning");
    await run();
    ask("reasoning again");
    await run();
  },

  /** A call of a tool, its result, and the answer. */
  async tools() {
    ask("tools");
    const { newMessages = [] } = await run({ tools: [WEATHER] });
    for (const { toolCalls = [] } of newMessages) {
      for (const call of toolCalls) {
        const { city } = JSON.parse(call.function.arguments);
        agent.addMessage({
          id: `result-${call.id}`,
          role: "tool",
          toolCallId: call.id,
          content: `Rain in ${city}`,
        });
      }
    }
    await run({ tools: [WEATHER] });
  },

  async image() {
    ask([
      { type: "text", text: "image" },
      { type: "image", source: { type: "data", value: PIXEL, mimeType: "image/png" } },
    ]);
    await run();
  },

  /** An image in the form that clients had until 0.0.47. 1.0.0 does not send it. */
  async binary() {
    ask([
      { type: "text", text: "binary" },
      { type: "binary", mimeType: "image/png", data: PIXEL },
    ]);
    await run();
  },

  /** Stop at the first piece of text. */
  async stop() {
    ask("stop");
    await run({}, ({ type }) => type === "TEXT_MESSAGE_CONTENT" && agent.abortRun());
  },

  /** An answer that is cut off within a call of a tool. */
  async length() {
    ask("length");
    await run({ tools: [WEATHER] });
  },

  /** Model, profile and cap of the output, and context, as an application sends them. */
  async properties() {
    ask("properties");
    await run({
      context: [{ description: "The page", value: "Orders" }],
      forwardedProps: { profile: "assistant", maxOutputTokens: 100, other: { of: "the app" } },
    });
  },

  /** The same run twice: the second one gets the same answer. */
  async repeated() {
    ask("repeated");
    const before = [...agent.messages];
    await run({ runId: "run-1" });
    agent.setMessages(before);
    await run({ runId: "run-1" });
  },

  /** The same run id with another question. */
  async reused() {
    ask("reused");
    await run({ runId: "run-1" });
    ask("another");
    await run({ runId: "run-1" });
  },
};

/** Any other scenario is one question of that name: what happens is up to the server. */
const one = async () => {
  ask(scenario);
  await run();
};

await (scenarios[scenario] ?? one)();
