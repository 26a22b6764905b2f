// AG-UI's HttpAgent, of one of its versions.

import { PIXEL, WEATHER, weatherOf } from "./common.mjs";

export function agent(HttpAgent, image) {
  return async function run(command, result) {
    const http = new HttpAgent({
      url: `${command.base}${command.path}`,
      threadId: crypto.randomUUID(),
      headers: { ...command.headers, ...(command.key && { Authorization: `Bearer ${command.key}` }) },
    });
    const content = command.act === "image" ? [{ type: "text", text: command.text }, image(PIXEL)] : command.text;
    http.messages = [{ id: "m1", role: "user", content }];
    const tools = command.act === "tools" ? [WEATHER] : [];
    for (let turn = 0; turn < 5; turn += 1) {
      const calls = [];
      await http.runAgent(
        { tools, forwardedProps: command.body ?? {} },
        {
          onTextMessageContentEvent: ({ event }) => {
            result.text += event.delta;
            if (command.act === "stop") http.abortRun();
          },
          onReasoningMessageContentEvent: ({ event }) => {
            result.reasoning += event.delta;
          },
          onCustomEvent: ({ event }) => {
            if (event.name === "source") result.sources.push(event.value.url);
          },
          onToolCallEndEvent: ({ event, toolCallName, toolCallArgs }) => {
            calls.push([event.toolCallId, toolCallName, toolCallArgs]);
          },
          onRunFinishedEvent: ({ event }) => {
            result.finish = event.result?.finishReason ?? null;
            result.usage = event.usage ?? null;
          },
          onRunErrorEvent: ({ event }) => {
            if (command.act === "stop") return; // the client reports its own abort
            result.error = event.message;
            result.code = event.code ?? null;
          },
          onRunFailed: ({ error }) => {
            if (command.act === "stop") return;
            result.error = error.payload?.message ?? error.message;
            result.status = error.status ?? null;
          },
        },
      );
      if (calls.length === 0 || result.error) return;
      for (const [id, name, input] of calls) {
        result.calls.push([name, input]);
        http.messages.push({ id: crypto.randomUUID(), role: "tool", toolCallId: id, content: weatherOf(input) });
      }
    }
  };
}
