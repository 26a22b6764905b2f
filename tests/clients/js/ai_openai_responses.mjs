// The AI SDK's OpenAI provider on Responses, which needs store: false.

import { createOpenAI } from "@ai-sdk/openai";

import { streamed } from "./stream_text.mjs";

export const run = (command, result) =>
  streamed(
    createOpenAI({ baseURL: `${command.base}/v1`, apiKey: command.key ?? "none", headers: command.headers }).responses(
      command.model,
    ),
    command,
    result,
    { openai: { store: false } },
  );
