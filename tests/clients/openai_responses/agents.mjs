// The Agents SDK for Node: node agents.mjs BASE_URL [MODEL]. One line of JSON per scenario.
import { Agent, Runner, OpenAIProvider, setTracingDisabled, tool } from "@openai/agents";

const [base, model = "chat"] = process.argv.slice(2);
setTracingDisabled(true);

let executed = [];
const weather = tool({
  name: "weather",
  description: "The weather of a city",
  strict: false,
  parameters: { type: "object", properties: { city: { type: "string" } }, required: [], additionalProperties: true },
  execute: async (input) => {
    executed.push(input);
    return "rain";
  },
});
const PIXEL =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";

const runner = (key) => new Runner({ modelProvider: new OpenAIProvider({ apiKey: key, baseURL: base, useResponses: true }) });
const agent = (tools) => new Agent({ name: "Helper", instructions: "Be brief", model, tools });

async function asked(input, { key = "rich", tools = [], stream }) {
  const result = await runner(key).run(agent(tools), input, { stream, maxTurns: 4 });
  let text = "";
  if (stream) {
    for await (const piece of result.toTextStream()) text += piece;
    await result.completed;
  }
  return { streamed: stream ? text : undefined, text: result.finalOutput, items: result.newItems.map((item) => item.type), history: result.history };
}

async function tried(scenario, way, act) {
  const line = { client: "agents-node", scenario, way };
  try {
    Object.assign(line, await act());
    delete line.history;
  } catch (error) {
    line.error = { class: error.constructor.name, status: error.status, code: error.code, message: error.message };
  }
  if (executed.length) line.executed = executed;
  executed = [];
  console.log(JSON.stringify(line));
}

for (const [way, stream] of [["run", false], ["stream", true]]) {
  const said = (scenario) => `${scenario} agents-node ${way}`;
  for (const scenario of ["text", "think", "slow", "refusal", "length", "filter", "refused", "inband", "broken"]) {
    await tried(scenario, way, () => asked(said(scenario), { stream }));
  }
  for (const scenario of ["tools", "halfcall"]) {
    await tried(scenario, way, () => asked(said(scenario), { stream, tools: [weather] }));
  }
  await tried("two turns", way, async () => {
    const first = await asked(said("think"), { stream });
    return asked([...first.history, { role: "user", content: said("again") }], { stream });
  });
  await tried("image", way, () =>
    asked([{ role: "user", content: [{ type: "input_text", text: said("image") }, { type: "input_image", image: PIXEL }] }], { stream }));
  for (const key of ["busy", "hourly", "poor"]) {
    await tried(`limit ${key}`, way, async () => {
      await asked(said(`text ${key} first`), { stream, key });
      return asked(said(`text ${key} second`), { stream, key });
    });
  }
}
process.exit(0);
