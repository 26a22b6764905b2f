// The openai package for Node on Responses.

import OpenAI from "openai";

import { PIXEL, WEATHER, weatherOf } from "./common.mjs";

export async function run(command, result) {
  const client = new OpenAI({
    baseURL: `${command.base}/v1`,
    apiKey: command.key ?? "none",
    defaultHeaders: command.headers,
    maxRetries: command.retries,
  });
  const options = command.idempotency ? { headers: { "Idempotency-Key": crypto.randomUUID() } } : {};
  const content = [{ type: "input_text", text: command.text }];
  if (command.act === "image") content.push({ type: "input_image", image_url: PIXEL });
  const input = [{ role: "user", content }];
  const tools = command.act === "tools" ? [{ type: "function", ...WEATHER, strict: true }] : undefined;
  const asked = { model: command.model, input, tools, include: ["reasoning.encrypted_content"], store: false };
  if (command.act === "whole") {
    const answer = await client.responses.create(asked, options);
    result.text = answer.output_text;
    result.finish = answer.status;
    return;
  }
  for (let turn = 0; turn < 5; turn += 1) {
    const stream = await client.responses.create({ ...asked, stream: true }, options);
    let output = [];
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") {
        result.text += event.delta;
        if (command.act === "stop") {
          stream.controller.abort();
          return;
        }
      }
      if (event.type === "response.reasoning_summary_text.delta") result.reasoning += event.delta;
      if (event.type === "response.output_text.annotation.added") result.sources.push(event.annotation.url);
      if (["response.completed", "response.incomplete", "response.failed"].includes(event.type)) {
        output = event.response.output;
        result.finish = event.response.incomplete_details?.reason ?? event.response.status;
        if (event.type === "response.failed") result.error = event.response.error.message;
      }
    }
    input.push(...output);
    const calls = output.filter((item) => item.type === "function_call");
    if (calls.length === 0) return;
    for (const call of calls) {
      const parsed = JSON.parse(call.arguments);
      result.calls.push([call.name, parsed]);
      input.push({ type: "function_call_output", call_id: call.call_id, output: weatherOf(parsed) });
    }
  }
}
