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
        body: { ...command.body, ...(["tools", "ten"].includes(command.act) && { tools: TOOLS }) },
      }),
      sendAutomaticallyWhen:
        ["tools", "ten"].includes(command.act) ? lastAssistantMessageIsCompleteWithToolCalls : undefined,
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
    const idle = async () => {
      while (["submitted", "streaming"].includes(state.status)) await new Promise((done) => setTimeout(done, 5));
    };
    const written = async (texts) => {
      // An automatic submission begins after the answer before it has ended.
      while (result.error === null && answers(state).length < texts) await new Promise((done) => setTimeout(done, 5));
      await idle();
    };
    if (command.act === "ten") {
      for (let turn = 1; turn <= 10; turn += 1) {
        await chat.sendMessage({ text: `${command.text} ${turn}` });
        await written(turn);
      }
      await new Promise((done) => setTimeout(done, 300)); // an endless loop would go on
      await idle();
      result.text = answers(state).join("");
      result.messages = state.messages.length;
      return;
    }
    const files = command.act === "image" ? [{ type: "file", mediaType: "image/png", url: PIXEL }] : undefined;
    const sent = chat.sendMessage({ text: command.text, files });
    if (["stop", "resume"].includes(command.act)) {
      while (!texts(state, "text") && state.status !== "error") await new Promise((done) => setTimeout(done, 5));
      await chat.stop();
    }
    await sent;
    await idle();
    if (command.act === "tools") await written(1);
    if (command.act === "regenerate") {
      await chat.regenerate();
      await idle();
    }
    if (command.act === "resume") {
      // The page is loaded again: it has the question alone, and the chat goes on.
      state.messages = state.messages.filter((message) => message.role === "user");
      await chat.resumeStream();
      await idle();
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

const answers = (state) =>
  state.messages
    .filter((message) => message.role === "assistant")
    .flatMap((message) => message.parts.filter((part) => part.type === "text" && part.text).map((part) => part.text));

const texts = (state, type) =>
  state.messages
    .filter((message) => message.role === "assistant")
    .flatMap((message) => message.parts.filter((part) => part.type === type).map((part) => part.text))
    .join("");
