// The Agents SDK on Responses.

import { OpenAIResponsesModel } from "@openai/agents";

import { withModel } from "./agents.mjs";

export const run = (command, result) => withModel(OpenAIResponsesModel, command, result);
