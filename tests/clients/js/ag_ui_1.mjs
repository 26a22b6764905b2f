// AG-UI 1.0.

import { HttpAgent } from "@ag-ui/client";

import { agent } from "./ag_ui.mjs";

const image = (url) => ({
  type: "image",
  source: { type: "data", value: url.split(",")[1], mimeType: "image/png" },
});

export const run = agent(HttpAgent, image);
