// useChat of AI SDK 5.

import * as sdk from "ai5";

import { chatting } from "./use_chat.mjs";

export const run = chatting(sdk);
