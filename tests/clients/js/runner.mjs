// Runs one official client: `node runner.mjs CLIENT`. Each line of standard input is a command in
// JSON, and each line of standard output is the result of one, with the same id.

import { createInterface } from "node:readline";

const [name] = process.argv.slice(2);
const { run } = await import(`./${name}.mjs`);

// AG-UI's client leaves a rejection of a cut connection unhandled; its callback has the error.
process.on("unhandledRejection", () => {});

const handle = async (command) => {
  const result = { text: "", reasoning: "", calls: [], sources: [], error: null, status: null, finish: null };
  try {
    await run(command, result);
  } catch (error) {
    result.error = error?.payload?.message ?? error?.message ?? String(error);
    result.status = error?.status ?? error?.statusCode ?? null;
    result.code = error?.code ?? null;
  }
  process.stdout.write(`${JSON.stringify({ id: command.id, ...result })}\n`);
};

for await (const line of createInterface({ input: process.stdin })) {
  void handle(JSON.parse(line));
}
