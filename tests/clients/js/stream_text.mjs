// streamText of the AI SDK, over one of its providers.

import { jsonSchema, stepCountIs, streamText, tool } from "ai";

import { PIXEL, WEATHER, weatherOf } from "./common.mjs";

export async function streamed(model, command, result, providerOptions) {
  const abort = new AbortController();
  const content = [{ type: "text", text: command.text }];
  if (command.act === "image") content.push({ type: "image", image: PIXEL });
  const tools = {
    get_weather: tool({
      description: WEATHER.description,
      inputSchema: jsonSchema(WEATHER.parameters),
      execute: (input) => {
        result.calls.push(["get_weather", input]);
        return weatherOf(input);
      },
    }),
  };
  const { fullStream } = streamText({
    model,
    messages: [{ role: "user", content }],
    tools: command.act === "tools" ? tools : undefined,
    stopWhen: stepCountIs(5),
    abortSignal: abort.signal,
    maxRetries: command.retries,
    headers: command.idempotency ? { "Idempotency-Key": crypto.randomUUID() } : undefined,
    providerOptions,
    onError: () => {},
  });
  for await (const part of fullStream) {
    if (part.type === "text-delta") {
      result.text += part.text;
      if (command.act === "stop") abort.abort();
    }
    if (part.type === "reasoning-delta") result.reasoning += part.text;
    if (part.type === "source") result.sources.push(part.url);
    if (part.type === "finish-step") result.finish = part.finishReason;
    if (part.type === "error") {
      // After its retries, the SDK's error names the last failure.
      const cause = part.error.lastError ?? part.error;
      result.error = cause.message ?? String(cause);
      result.status = cause.statusCode ?? null;
    }
  }
}
