// useChat of the AI SDK without React: its chat, its transport, and a state in memory.

import { PIXEL, WEATHER, weatherOf } from "./common.mjs";

// useChat does not send definitions of tools.
const TOOLS = { [WEATHER.name]: { description: WEATHER.description, inputSchema: WEATHER.parameters } };

class State {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = (message) => {
    this.messages = [...this.messages, message];
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.messages = this.messages.map((each, place) => (place === index ? message : each));
  };
  snapshot = (value) => structuredClone(value);
}

export function chatting({ AbstractChat, DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls }) {
  class Chat extends AbstractChat {}

  return async function run(command, result) {
    const state = new State();
    const headers = { ...command.headers, ...(command.key && { Authorization: `Bearer ${command.key}` }) };
    if (command.idempotency) headers["Idempotency-Key"] = crypto.randomUUID();
    const chat = new Chat({
      state,
      id: crypto.randomUUID(),
      transport: new DefaultChatTransport({
        api: `${command.base}${command.path}`,
        headers,
        body: { ...command.body, ...(command.act === "tools" && { tools: TOOLS }) },
      }),
      sendAutomaticallyWhen:
        command.act === "tools" ? lastAssistantMessageIsCompleteWithToolCalls : undefined,
      onToolCall: ({ toolCall }) => {
        result.calls.push([toolCall.toolName, toolCall.input]);
        const output = weatherOf(toolCall.input);
        const add = chat.addToolOutput ?? chat.addToolResult;
        void add({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output });
      },
      onError: (error) => {
        result.error = error.message;
      },
    });
    const files = command.act === "image" ? [{ type: "file", mediaType: "image/png", url: PIXEL }] : undefined;
    const sent = chat.sendMessage({ text: command.text, files });
    if (command.act === "stop") {
      while (!texts(state, "text") && state.status !== "error") await new Promise((done) => setTimeout(done, 5));
      await chat.stop();
    }
    await sent;
    while (["submitted", "streaming"].includes(state.status)) await new Promise((done) => setTimeout(done, 5));
    if (command.act === "tools") {
      // The automatic submission begins after the first one has ended.
      while (!texts(state, "text") && !result.error) await new Promise((done) => setTimeout(done, 5));
      while (["submitted", "streaming"].includes(state.status)) await new Promise((done) => setTimeout(done, 5));
    }
    result.text = texts(state, "text");
    result.reasoning = texts(state, "reasoning");
    const last = state.messages.at(-1);
    result.sources = last.parts.filter((part) => part.type === "source-url").map((part) => part.url);
    result.finish = last.metadata?.finishReason ?? null;
    result.usage = last.metadata?.usage ?? null;
    result.messages = state.messages.length;
  };
}

const texts = (state, type) =>
  state.messages
    .filter((message) => message.role === "assistant")
    .flatMap((message) => message.parts.filter((part) => part.type === type).map((part) => part.text))
    .join("");
