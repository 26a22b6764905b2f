// The Agents SDK on Chat Completions.

import { OpenAIChatCompletionsModel } from "@openai/agents";

import { withModel } from "./agents.mjs";

export const run = (command, result) => withModel(OpenAIChatCompletionsModel, command, result);
