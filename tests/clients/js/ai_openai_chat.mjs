// The AI SDK's OpenAI provider on Chat Completions.

import { createOpenAI } from "@ai-sdk/openai";

import { streamed } from "./stream_text.mjs";

export const run = (command, result) =>
  streamed(
    createOpenAI({ baseURL: `${command.base}/v1`, apiKey: command.key ?? "none", headers: command.headers }).chat(
      command.model,
    ),
    command,
    result,
  );
