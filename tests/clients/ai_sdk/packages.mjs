// Imports a package from a folder of packages that is not beside this file.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

export async function load(modules, name) {
  const folder = join(modules, "node_modules", name);
  const { exports, module, main } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return import(pathToFileURL(join(folder, path(exports?.["."]) ?? module ?? main)).href);
}

function path(target) {
  if (target === undefined || typeof target === "string") return target;
  return path(target.import ?? target.default ?? target.node);
}

// --name value --name value word word
export function options(args) {
  const found = { words: [] };
  for (let n = 0; n < args.length; n += 1) {
    if (args[n].startsWith("--")) found[args[n].slice(2)] = args[(n += 1)];
    else found.words.push(args[n]);
  }
  return found;
}

export function print(result) {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
