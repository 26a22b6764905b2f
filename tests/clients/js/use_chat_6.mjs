// useChat of AI SDK 6.

import * as sdk from "ai6";

import { chatting } from "./use_chat.mjs";

export const run = chatting(sdk);
