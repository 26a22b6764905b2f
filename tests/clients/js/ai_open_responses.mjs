// The AI SDK's provider for Open Responses.

import { createOpenResponses } from "@ai-sdk/open-responses";

import { streamed } from "./stream_text.mjs";

export const run = (command, result) =>
  streamed(
    createOpenResponses({
      name: "chatnest",
      url: `${command.base}/v1/responses`,
      apiKey: command.key ?? "none",
      headers: command.headers,
    })(command.model),
    command,
    result,
  );
