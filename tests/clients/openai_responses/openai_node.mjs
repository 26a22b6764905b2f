// The `openai` package for Node: node openai_node.mjs BASE_URL [MODEL]. One line of JSON per scenario.
import OpenAI from "openai";

const [base, model = "chat"] = process.argv.slice(2);
const PIXEL =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const TOOLS = [
  { type: "function", name: "weather", strict: false, parameters: { type: "object", properties: { city: { type: "string" } } } },
];

const client = (key) => new OpenAI({ baseURL: base, apiKey: key ?? "rich" });
const ask = (scenario, way) => [{ role: "user", content: `${scenario} node ${way}` }];

const seen = (response) => ({
  status: response.status,
  reason: response.incomplete_details?.reason,
  text: response.output_text,
  items: response.output?.map((item) => item.type),
  usage: response.usage?.total_tokens,
});

// Each way of asking, to what its user sees.
const WAYS = {
  async create(input, options, key) {
    return seen(await client(key).responses.create({ model, input, ...options }));
  },
  async stream(input, options, key) {
    const found = { events: 0, text: "", types: {} };
    const stream = await client(key).responses.create({ model, input, stream: true, ...options });
    let last = -1;
    for await (const event of stream) {
      if (event.sequence_number !== last + 1) throw new Error("a number is missing");
      last = event.sequence_number;
      if (event.type === "response.output_text.delta") found.text += event.delta;
      if (event.type === "response.refusal.delta") found.refusal = (found.refusal ?? "") + event.delta;
      if (event.type === "response.reasoning_summary_text.delta") found.thinking = (found.thinking ?? "") + event.delta;
      if (event.response) found.last = seen(event.response);
      found.events += 1;
    }
    delete found.types;
    return found;
  },
  async helper(input, options, key) {
    const stream = client(key).responses.stream({ model, input, ...options });
    let text = "";
    stream.on("response.output_text.delta", (event) => (text += event.delta));
    const response = await stream.finalResponse();
    return { streamed: text, ...seen(response) };
  },
};

async function tried(scenario, way, act) {
  const line = { client: "openai-node", scenario, way };
  try {
    Object.assign(line, await act());
  } catch (error) {
    line.error = { class: error.constructor.name, status: error.status, code: error.code, type: error.type, param: error.param, message: error.message, request: error.requestID };
  }
  console.log(JSON.stringify(line));
}

for (const way of Object.keys(WAYS)) {
  for (const scenario of ["text", "think", "source", "slow", "refusal", "length", "spent", "filter", "refused", "inband", "broken"]) {
    await tried(scenario, way, () => WAYS[way](ask(scenario, way), {}));
  }
  for (const scenario of ["halfcall", "nocall"]) {
    await tried(scenario, way, () => WAYS[way](ask(scenario, way), { tools: TOOLS }));
  }
  await tried("image", way, () =>
    WAYS[way]([{ role: "user", content: [{ type: "input_text", text: `image node ${way}` }, { type: "input_image", image_url: PIXEL, detail: "auto" }] }], {}));
  await tried("tools", way, async () => {
    const input = ask("tools", way);
    let response = await client().responses.create({ model, input, tools: TOOLS, include: ["reasoning.encrypted_content"], store: false });
    if (way !== "create") {
      response = await client().responses.stream({ model, input, tools: TOOLS, store: false }).finalResponse();
    }
    const results = response.output.filter((item) => item.type === "function_call").map((call) => ({ type: "function_call_output", call_id: call.call_id, output: "rain" }));
    return { items: response.output.map((item) => item.type), calls: results.length, ...(await WAYS[way]([...input, ...response.output, ...results], { tools: TOOLS })) };
  });
  for (const key of ["busy", "hourly", "poor"]) {
    await tried(`limit ${key}`, way, async () => {
      await WAYS[way](ask("text", `${way} ${key} first`), {}, key);
      return WAYS[way](ask("text", `${way} ${key} second`), {}, key);
    });
  }
}

await tried("stop", "break", async () => {
  let pieces = 0;
  const stream = await client().responses.create({ model, input: ask("stop", "break"), stream: true });
  for await (const event of stream) {
    if (event.type === "response.output_text.delta" && (pieces += 1) === 3) break;
  }
  return { pieces };
});
await tried("cancel", "post", async () => {
  let id, type;
  const own = new OpenAI({ baseURL: base, apiKey: "rich", defaultHeaders: { "idempotency-key": `"node-${Date.now()}"` } });
  const stream = await own.responses.create({ model, input: ask("stop", "cancel"), stream: true });
  let receipt, code;
  try {
    for await (const event of stream) {
      id ??= event.response?.id;
      if (event.type === "response.output_text.delta" && !receipt) receipt = await own.responses.cancel(id);
      type = event.type;
    }
  } catch (error) {
    code = error.code;
  }
  return { receipt: receipt?.status, same: receipt?.id === id, last: type, code };
});
const REFUSED = {
  item_reference: { input: [{ type: "item_reference", id: "msg_1" }] },
  previous_response_id: { previous_response_id: "resp_1" },
  conversation: { conversation: "conv_1" },
  background: { background: true },
  "web search": { tools: [{ type: "web_search" }] },
  truncation: { truncation: "auto" },
  model: { model: "nobody" },
};
for (const [name, options] of Object.entries(REFUSED)) {
  await tried(`refused ${name}`, "create", () => WAYS.create(ask("text", name), options));
}
