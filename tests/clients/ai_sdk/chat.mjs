// useChat without React: the AbstractChat and the DefaultChatTransport below it, as they are.
//
//     node chat.mjs --modules DIR --package ai|ai6|ai5 --api URL SCENARIO...
//
// Prints one line of JSON for each scenario. model.py answers to the last word of a message.

import { load, options, print } from "./packages.mjs";

const { modules, package: name, api, words } = options(process.argv.slice(2));
const ai = await load(modules, name);

const PNG =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGP4z8BQDwAEgAF/pooBPQAAAABJRU5ErkJggg==";
const WEATHER = {
  description: "The weather in a city",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

class State {
  status = "ready";
  error = undefined;
  constructor(messages) {
    this.messages = messages;
  }
  pushMessage = (message) => {
    this.messages = [...this.messages, message];
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.messages = this.messages.with(index, structuredClone(message));
  };
  snapshot = (value) => structuredClone(value);
}

class Chat extends ai.AbstractChat {
  constructor({ messages = [], body, ...rest } = {}) {
    const seen = { requests: 0, data: [], finished: [], tools: [] };
    const transport = new ai.DefaultChatTransport({
      api,
      body,
      fetch: (...args) => {
        seen.requests += 1;
        if (seen.requests > 60) throw new Error("an endless loop");
        return fetch(...args);
      },
    });
    super({
      transport,
      state: new State(messages),
      onError: () => {},
      onData: (part) => seen.data.push(part),
      onFinish: ({ finishReason, isError, isAbort, isDisconnect }) =>
        seen.finished.push({ finishReason, isError, isAbort, isDisconnect }),
      ...rest,
    });
    this.seen = seen;
  }
}

// A chat with a tool, as the AI SDK's page about client-side tools has it.
function withTool(rest = {}) {
  const chat = new Chat({
    body: { tools: { weather: WEATHER } },
    sendAutomaticallyWhen: ai.lastAssistantMessageIsCompleteWithToolCalls,
    onToolCall: ({ toolCall }) => {
      chat.seen.tools.push(toolCall.input);
      const output = { sky: "clear" };
      chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output });
    },
    ...rest,
  });
  return chat;
}

function shown(chat) {
  return {
    status: chat.status,
    error: chat.error?.message ?? null,
    messages: chat.messages,
    ...chat.seen,
  };
}

async function until(test) {
  const end = Date.now() + 20_000;
  while (!test()) {
    if (Date.now() > end) throw new Error(`not within 20 s: ${test}`);
    await new Promise((done) => setTimeout(done, 5));
  }
}

// A tool's output is sent after the request that called for it, in a request of its own.
async function quiet(chat) {
  let requests;
  do {
    requests = chat.seen.requests;
    await until(() => ["ready", "error"].includes(chat.status));
    await new Promise((done) => setTimeout(done, 60));
  } while (requests !== chat.seen.requests || !["ready", "error"].includes(chat.status));
}

const textOf = (message) =>
  (message?.parts ?? []).map((part) => (part.type === "text" ? part.text : "")).join("");

async function say(chat, text, rest = {}) {
  await chat.sendMessage({ text, ...rest });
  await quiet(chat);
  return shown(chat);
}

async function cut(chat, text) {
  const sent = chat.sendMessage({ text });
  await until(() => chat.lastMessage?.role === "assistant" && textOf(chat.lastMessage));
  await chat.stop();
  await sent;
}

const SCENARIOS = {
  // Another word is one message: text, think, source, refuse, length, cut, error, fail, silent.
  async image() {
    const files = [{ type: "file", mediaType: "image/png", url: PNG }];
    return say(new Chat(), "text", { files });
  },
  async document() {
    const files = [{ type: "file", mediaType: "application/pdf", url: "data:application/pdf;base64,JVBERg==" }];
    return say(new Chat(), "text", { files });
  },
  async turns() {
    const chat = new Chat();
    await say(chat, "think");
    return say(chat, "text");
  },
  // Ten questions, each with one call of a tool: twenty requests.
  async tools() {
    const chat = withTool();
    for (let n = 0; n < 10; n += 1) await say(chat, "tool");
    return shown(chat);
  },
  // One question, after which the model calls the tool three times, one after the other.
  async chain() {
    return say(withTool(), "chain");
  },
  async same() {
    return say(withTool(), "same");
  },
  async parallel() {
    return say(withTool(), "parallel");
  },
  async loop() {
    return say(withTool(), "text");
  },
  async unreadable() {
    return say(withTool(), "unreadable");
  },
  async incomplete() {
    return say(withTool(), "incomplete");
  },
  async poison() {
    return say(withTool(), "poison");
  },
  // A stop, then one more question in the same chat.
  async stop() {
    const chat = new Chat();
    await cut(chat, "slow");
    const stopped = shown(chat);
    return { ...(await say(chat, "text")), stopped };
  },
  async regenerate() {
    const chat = new Chat();
    await say(chat, "text");
    const [, first] = chat.messages;
    await chat.regenerate();
    const [, second] = chat.messages;
    await chat.regenerate({ messageId: second.id });
    return { ...shown(chat), ids: [first.id, second.id, chat.messages[1].id] };
  },
  async retry() {
    const chat = new Chat();
    await say(chat, "once");
    const failed = shown(chat);
    await chat.regenerate();
    return { ...shown(chat), failed };
  },
  // A page that is loaded again while an answer is being written, and one without an answer.
  async resume() {
    const chat = new Chat({ id: "a chat/1" });
    await cut(chat, "slow");
    const asked = chat.messages.filter((message) => message.role === "user");
    const again = new Chat({ id: "a chat/1", messages: structuredClone(asked) });
    const partial = new Chat({ id: "a chat/1", messages: structuredClone(chat.messages) });
    await Promise.all([again.resumeStream(), partial.resumeStream()]);
    return { ...shown(again), partial: shown(partial) };
  },
  // The same, while the answer to a tool's output is being written.
  async trip() {
    const chat = withTool({ id: "trip" });
    const sent = chat.sendMessage({ text: "trip" });
    await until(() => chat.lastMessage?.role === "assistant" && textOf(chat.lastMessage));
    await chat.stop();
    await sent;
    const again = new Chat({ id: "trip", messages: structuredClone(chat.messages) });
    await again.resumeStream();
    return { ...shown(again), first: shown(chat) };
  },
  // Questions until one is refused, by a limit that the harness has set.
  async limited() {
    const chat = new Chat();
    while (chat.status !== "error" && chat.seen.requests < 20) await say(chat, "text");
    return shown(chat);
  },
  async nothing() {
    const chat = new Chat({ id: "no answer here" });
    await chat.resumeStream();
    return shown(chat);
  },
  // The stop of an answer that goes on without a reader.
  async cancel() {
    const chat = new Chat({ id: "cancelled" });
    await cut(chat, "slow");
    const response = await fetch(`${api}/${encodeURIComponent(chat.id)}/stream`, { method: "DELETE" });
    return { ...shown(chat), cancelled: response.status, receipt: await response.text() };
  },
  async twice() {
    const message = { id: "m1", role: "user", parts: [{ type: "text", text: "text" }] };
    const body = JSON.stringify({ id: "twice", messages: [message], trigger: "submit-message" });
    const headers = { "content-type": "application/json" };
    const ask = async () => (await fetch(api, { method: "POST", headers, body })).text();
    const [one, two] = await Promise.all([ask(), ask()]);
    return { same: one === two, later: one === (await ask()) };
  },
};

for (const scenario of words) {
  const run = SCENARIOS[scenario] ?? (() => say(new Chat(), scenario));
  print({ scenario, package: name, ...(await run()) });
}
process.exit(0); // idle connections would keep the process
