// useChat of AI SDK 7.

import * as sdk from "ai";

import { chatting } from "./use_chat.mjs";

export const run = chatting(sdk);
