// The AI SDK's provider for servers that are compatible with OpenAI.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";

import { streamed } from "./stream_text.mjs";

export const run = (command, result) =>
  streamed(
    createOpenAICompatible({
      name: "chatnest",
      baseURL: `${command.base}/v1`,
      apiKey: command.key ?? "none",
      headers: command.headers,
    }).chatModel(command.model),
    command,
    result,
  );
