// The Agents SDK for JavaScript, over one of its models.

import { Agent, run as ask, setTracingDisabled, tool } from "@openai/agents";
import OpenAI from "openai";

import { PIXEL, WEATHER, weatherOf } from "./common.mjs";

setTracingDisabled(true);

export async function withModel(Model, command, result) {
  const client = new OpenAI({
    baseURL: `${command.base}/v1`,
    apiKey: command.key ?? "none",
    maxRetries: command.retries,
    defaultHeaders: { ...command.headers, ...(command.idempotency && { "Idempotency-Key": crypto.randomUUID() }) },
  });
  const weather = tool({
    name: WEATHER.name,
    description: WEATHER.description,
    parameters: WEATHER.parameters,
    execute: (input) => {
      result.calls.push(["get_weather", input]);
      return weatherOf(input);
    },
  });
  const agent = new Agent({
    name: "assistant",
    model: new Model(client, command.model),
    tools: command.act === "tools" ? [weather] : [],
  });
  const content = [{ type: "input_text", text: command.text }];
  if (command.act === "image") content.push({ type: "input_image", image: PIXEL });
  const abort = new AbortController();
  const stream = await ask(agent, [{ role: "user", content }], { stream: true, signal: abort.signal });
  for await (const event of stream) {
    if (event.type !== "raw_model_stream_event") continue;
    if (event.data.type === "output_text_delta") {
      result.text += event.data.delta;
      if (command.act === "stop") {
        abort.abort();
        break;
      }
    }
  }
  if (command.act !== "stop") {
    await stream.completed;
    if (stream.error) throw stream.error;
  }
  result.finish = "completed";
}
