// The AI SDK with @ai-sdk/openai and @ai-sdk/open-responses: node ai_sdk.mjs BASE_URL [MODEL].
// One line of JSON per scenario, with what its user sees.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenResponses } from "@ai-sdk/open-responses";
import { generateText, isStepCount, jsonSchema, stepCountIs, streamText, tool } from "ai";

const [base, model = "chat"] = process.argv.slice(2);
const steps = isStepCount ?? stepCountIs;
const PIXEL =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";

let executed = [];
const tools = {
  weather: tool({
    inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } } }),
    execute: async (input) => {
      executed.push(input);
      return "rain";
    },
  }),
};

// The three set-ups of users: the default, the one that works on every turn, and the other provider.
const SETUPS = {
  default: (key) => ({ model: createOpenAI({ baseURL: base, apiKey: key }).responses(model) }),
  "store false": (key) => ({
    model: createOpenAI({ baseURL: base, apiKey: key }).responses(model),
    providerOptions: { openai: { store: false } },
  }),
  "open-responses": (key) => ({
    model: createOpenResponses({ url: `${base}/responses`, name: "chatnest", apiKey: key })(model),
  }),
};

const shownError = (error) => ({
  class: error.name ?? typeof error,
  status: error.statusCode ?? error.lastError?.statusCode,
  message: error.message ?? JSON.stringify(error),
  retryable: error.isRetryable,
});

async function streamed(options) {
  const found = { text: "", parts: {} };
  const result = streamText({ ...options, onError: () => {} });
  for await (const part of result.fullStream) {
    found.parts[part.type] = (found.parts[part.type] ?? 0) + 1;
    if (part.type === "text-delta") found.text += part.text;
    if (part.type === "reasoning-delta") found.thinking = (found.thinking ?? "") + part.text;
    if (part.type === "source") found.source = part.url;
    if (part.type === "tool-call") found.calls = [...(found.calls ?? []), part.invalid ? "invalid" : part.input];
    if (part.type === "error") found.error = shownError(part.error);
    if (part.type === "finish") Object.assign(found, { finish: part.finishReason, usage: part.totalUsage?.totalTokens });
  }
  found.parts = Object.keys(found.parts).join(" ");
  if (!found.error) found.messages = (await result.response).messages;
  return found;
}

async function generated(options) {
  const result = await generateText(options);
  return { text: result.text, thinking: result.reasoningText, finish: result.finishReason, usage: result.totalUsage?.totalTokens, messages: result.response.messages };
}

const WAYS = { stream: streamed, generate: generated };

async function tried(setup, scenario, way, act) {
  const line = { client: "ai-sdk", setup, scenario, way };
  try {
    Object.assign(line, await act());
    delete line.messages;
  } catch (error) {
    line.error = shownError(error);
  }
  if (executed.length) line.executed = executed;
  executed = [];
  console.log(JSON.stringify(line));
}

for (const [setup, options] of Object.entries(SETUPS)) {
  for (const [way, act] of Object.entries(WAYS)) {
    const said = (scenario) => [{ role: "user", content: `${scenario} ai ${setup} ${way}` }];
    for (const scenario of ["text", "think", "source", "slow", "refusal", "length", "spent", "filter", "refused", "inband", "broken"]) {
      await tried(setup, scenario, way, () => act({ ...options("rich"), messages: said(scenario) }));
    }
    for (const scenario of ["tools", "halfcall", "nocall"]) {
      await tried(setup, scenario, way, () => act({ ...options("rich"), messages: said(scenario), tools, stopWhen: steps(4) }));
    }
    await tried(setup, "two turns", way, async () => {
      const first = await act({ ...options("rich"), messages: said("think") });
      return act({ ...options("rich"), system: "Be brief", messages: [...said("think"), ...first.messages, ...said("again")] });
    });
    await tried(setup, "image", way, () =>
      act({ ...options("rich"), messages: [{ role: "user", content: [{ type: "text", text: `image ai ${setup} ${way}` }, { type: "image", image: PIXEL, mediaType: "image/png" }] }] }));
    for (const key of ["busy", "hourly", "poor"]) {
      await tried(setup, `limit ${key}`, way, async () => {
        await act({ ...options(key), messages: said(`text ${key} first`) });
        return act({ ...options(key), messages: said(`text ${key} second`) });
      });
    }
  }
  await tried(setup, "stop", "stream", async () => {
    const controller = new AbortController();
    const result = streamText({ ...options("rich"), messages: [{ role: "user", content: `stop ai ${setup}` }], abortSignal: controller.signal });
    let pieces = 0;
    const parts = [];
    for await (const part of result.fullStream) {
      if (part.type === "text-delta" && (pieces += 1) === 3) controller.abort();
      if (part.type !== "text-delta") parts.push(part.type);
    }
    return { pieces, parts: parts.join(" ") };
  });
}
