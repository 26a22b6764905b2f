// The openai package for Node on Chat Completions.

import OpenAI from "openai";

import { PIXEL, WEATHER, weatherOf } from "./common.mjs";

const content = (command) =>
  command.act === "image"
    ? [
        { type: "text", text: command.text },
        { type: "image_url", image_url: { url: PIXEL } },
      ]
    : command.text;

export async function run(command, result) {
  const client = new OpenAI({
    baseURL: `${command.base}/v1`,
    apiKey: command.key ?? "none",
    defaultHeaders: command.headers,
    maxRetries: command.retries,
  });
  const options = command.idempotency ? { headers: { "Idempotency-Key": crypto.randomUUID() } } : {};
  const messages = [{ role: "user", content: content(command) }];
  const tools = command.act === "tools" ? [{ type: "function", function: WEATHER }] : undefined;
  if (command.act === "whole") {
    const answer = await client.chat.completions.create({ model: command.model, messages }, options);
    result.text = answer.choices[0].message.content;
    result.finish = answer.choices[0].finish_reason;
    return;
  }
  for (let turn = 0; turn < 5; turn += 1) {
    const stream = await client.chat.completions.create(
      { model: command.model, messages, tools, stream: true },
      options,
    );
    const calls = [];
    let text = "";
    for await (const chunk of stream) {
      const [choice] = chunk.choices;
      if (!choice) continue;
      const { delta } = choice;
      text += delta.content ?? "";
      result.text += delta.content ?? "";
      result.reasoning += delta.reasoning_content ?? "";
      for (const source of delta.annotations ?? []) result.sources.push(source.url_citation.url);
      for (const call of delta.tool_calls ?? []) {
        calls[call.index] ??= { id: call.id, type: "function", function: { name: call.function.name, arguments: "" } };
        calls[call.index].function.arguments += call.function.arguments ?? "";
      }
      result.finish = choice.finish_reason ?? result.finish;
      if (command.act === "stop" && text) {
        stream.controller.abort();
        return;
      }
    }
    if (calls.length === 0) return;
    messages.push({ role: "assistant", content: text || null, tool_calls: calls });
    for (const call of calls) {
      const input = JSON.parse(call.function.arguments);
      result.calls.push([call.function.name, input]);
      messages.push({ role: "tool", tool_call_id: call.id, content: weatherOf(input) });
    }
  }
}
