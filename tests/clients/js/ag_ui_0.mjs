// AG-UI 0.0.59, which CopilotKit and assistant-ui have.

import { HttpAgent } from "ag-ui-0";

import { agent } from "./ag_ui.mjs";

const image = (url) => ({
  type: "image",
  source: { type: "data", value: url.split(",")[1], mimeType: "image/png" },
});

export const run = agent(HttpAgent, image);
