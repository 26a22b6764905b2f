// The server's endpoints: its settings, its limits, and one question at a time. No DOM.

import { authorization } from "./key.js";
import { readEvents } from "./stream.js";

/**
 * @typedef {{name: string, model: string, provider: string, aliases: string[], images: boolean,
 *   context_window: number | null, profiles: string[]}} Model
 * @typedef {{chat_path: string, model: string, models: Model[], demo: boolean,
 *   default_profile: string, keys: boolean}} Settings
 * @typedef {{code: string, detail: string, status: number, retryable: boolean,
 *   retryAfter: number | null, charged: boolean | null}} Problem
 * @typedef {{input_tokens: number, output_tokens: number, total_tokens: number,
 *   source: "provider" | "estimated", finish_reason: string | null}} Usage
 * @typedef {{kind: "done", usage: Usage | null}
 *   | {kind: "stopped"}
 *   | {kind: "refused", problem: Problem}
 *   | {kind: "incomplete", problem: Problem}} Outcome
 */

/** A plain GET was refused or got no answer. */
export class ProblemError extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(problem.detail || problem.code);
    this.problem = problem;
  }
}

/**
 * Fetches the server's settings. Paths are relative to the page: a proxy may serve the whole site
 * under a prefix that the server does not know.
 * @returns {Promise<Settings>}
 */
export const fetchSettings = async () => {
  const settings = await getJson("settings.json");
  const { pathname } = new URL(`.${settings.chat_path}`, document.baseURI);
  return { ...settings, chat_path: pathname };
};

/**
 * @param {string} chatPath
 * @param {string} profile "" leaves the choice to the server
 * @param {string} [key] a key other than the stored one
 * @returns {Promise<import("./limits.js").Limits>}
 */
export const fetchLimits = (chatPath, profile, key) =>
  getJson(`${chatPath}/limits${profile ? `?profile=${encodeURIComponent(profile)}` : ""}`, authorization(key));

/** Seconds that the server continues after a disconnect. PAUSES reconnect for about as long. */
const LINGER = 30;
const PAUSES = [250, 500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000]; // ms

/**
 * Asks one question. Never throws: every failure is an outcome, and only a `done` event gives "done".
 * After a lost connection it reconnects and resumes the answer, if the server supports runs.
 *
 * @param {string} chatPath
 * @param {{messages: {id: string, role: string, content: string}[], profile: string}} request
 * @param {Reading & {key: string}} options
 * @returns {Promise<Outcome>}
 *
 * @typedef {{signal: AbortSignal, onToken: (text: string) => void, onRun?: (run: string) => void}} Reading
 */
export async function ask(chatPath, request, { key, ...reading }) {
  const answer = new Answer(chatPath, reading);
  const init = {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Accept: "text/event-stream",
      "Idempotency-Key": `"${key}"`,
      ...answer.authorization,
    },
    // usageEvent: the stream then reports the answer's tokens and its finish reason.
    body: JSON.stringify({ ...request, usageEvent: true, linger: LINGER }),
  };
  const outcome = await answer.read(chatPath, init);
  if (outcome.kind === "stopped" && !answer.answered) cancelUnknown(chatPath, init, answer.authorization);
  return answer.goOn(outcome);
}

/**
 * Resumes an answer after a lost connection or a reload.
 *
 * @param {string} chatPath
 * @param {string} run
 * @param {Reading} reading
 * @returns {Promise<Outcome>}
 */
export function resume(chatPath, run, reading) {
  return new Answer(chatPath, reading, run).goOn(incomplete("dropped"));
}

/** One answer, read over one or more connections. */
class Answer {
  answered = false;
  /** The user's header fields, kept because the user may sign out before the answer is stopped. */
  authorization = authorization();
  #last = 0;

  /**
   * @param {string} chatPath
   * @param {Reading} reading
   */
  constructor(chatPath, reading, run = "") {
    this.chatPath = chatPath;
    this.reading = reading;
    this.run = run;
  }

  /** @param {Outcome} outcome of the first connection */
  async goOn(outcome) {
    const { signal } = this.reading;
    for (const pause of PAUSES) {
      if (!this.run || !cut(outcome) || signal.aborted) break;
      await wait(this.#last || pause > PAUSES[0] ? pause : 0, signal);
      const next = await this.read(`${this.chatPath}/runs/${this.run}?after=${this.#last}`, { headers: this.authorization });
      if (next.kind !== "refused" || next.problem.code === "unreachable") outcome = next;
      else return { kind: "incomplete", problem: { ...next.problem, code: "reloaded" } };
    }
    if (signal.aborted && this.run) {
      const init = { method: "DELETE", headers: this.authorization, keepalive: true };
      fetch(`${this.chatPath}/runs/${this.run}`, init).catch(() => {});
      return { kind: "stopped" };
    }
    return outcome;
  }

  /**
   * Reads the answer over one connection.
   *
   * @param {string} url
   * @param {RequestInit} init
   * @returns {Promise<Outcome>}
   */
  async read(url, init) {
    const { signal } = this.reading;
    let response;
    try {
      response = await fetch(url, { ...init, cache: "no-store", signal });
      this.answered = true;
      if (!response.ok) return { kind: "refused", problem: await problemOf(response) };
    } catch {
      return signal.aborted ? { kind: "stopped" } : refused("unreachable");
    }
    const type = response.headers.get("Content-Type") ?? "";
    if (!type.startsWith("text/event-stream") || !response.body) return refused("bad_answer", false);
    this.run = response.headers.get("ChatNest-Run-Id") ?? "";
    if (this.run) this.reading.onRun?.(this.run);
    try {
      return await this.#follow(response.body);
    } catch {
      return signal.aborted ? { kind: "stopped" } : incomplete("dropped");
    }
  }

  /**
   * @param {ReadableStream<Uint8Array>} body
   * @returns {Promise<Outcome>}
   */
  async #follow(body) {
    /** @type {Usage | null} */
    let usage = null;
    for await (const { name, data, id } of readEvents(body)) {
      if (name === "token") {
        const text = parsed(data);
        if (typeof text !== "string") return incomplete("bad_answer");
        if (id) this.#last = Number(id);
        this.reading.onToken(text);
      } else if (name === "usage") {
        usage = parsed(data);
      } else if (name === "done") {
        return { kind: "done", usage };
      } else if (name === "error") {
        return { kind: "incomplete", problem: problemFrom(parsed(data), 200) };
      } // start and ping only show that the server is alive; unknown names are ignored
    }
    return incomplete("dropped"); // a stream without a terminal event was cut off
  }
}

/** Whether the connection was lost, rather than the answer ended or stopped. */
const cut = (/** @type {Outcome} */ outcome) =>
  "problem" in outcome && ["dropped", "unreachable"].includes(outcome.problem.code);

/**
 * Cancels a run that was stopped before the response: the idempotency key finds the run's id.
 *
 * @param {string} chatPath
 * @param {RequestInit} init
 * @param {Record<string, string>} headers
 */
async function cancelUnknown(chatPath, init, headers) {
  try {
    const response = await fetch(chatPath, init);
    const run = response.headers.get("ChatNest-Run-Id");
    if (run) await fetch(`${chatPath}/runs/${run}`, { method: "DELETE", headers, keepalive: true });
    await response.body?.cancel();
  } catch {
    // The server is unreachable, so there is nothing to cancel here.
  }
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 */
function wait(ms, signal) {
  return new Promise((resolve) => {
    const timer = window.setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (window.clearTimeout(timer), resolve(undefined)), { once: true });
  });
}

/**
 * @param {string} url
 * @param {Record<string, string>} headers
 */
async function getJson(url, headers = {}) {
  let response;
  try {
    response = await fetch(url, { headers: { Accept: "application/json", ...headers }, cache: "no-store" });
    if (response.ok) return await response.json();
  } catch {
    throw new ProblemError(local(response ? "bad_answer" : "unreachable"));
  }
  throw new ProblemError(await problemOf(response));
}

/**
 * Returns the problem document of a response, or one made from its status if a proxy answered.
 *
 * @param {Response} response
 */
async function problemOf(response) {
  const document = parsed(await response.text());
  const problem = problemFrom(document, response.status);
  const header = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  if (problem.retryAfter === null && header >= 0) problem.retryAfter = header;
  return problem;
}

/**
 * @param {any} fields an RFC 9457 document, the data of an `error` event, or any other value
 * @param {number} status
 * @returns {Problem}
 */
function problemFrom(fields, status) {
  const given = fields && typeof fields === "object" ? fields : {};
  const waits = status === 429 || status === 502 || status === 503 || status === 504;
  return {
    code: typeof given.code === "string" ? given.code : "",
    detail: String(given.detail ?? given.message ?? given.error ?? ""),
    status,
    retryable: typeof given.retryable === "boolean" ? given.retryable : waits,
    retryAfter: typeof given.retry_after === "number" ? given.retry_after : null,
    charged: given.charged === undefined || given.charged === null ? null : Boolean(given.charged),
  };
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * Returns a problem that the page detected itself.
 *
 * @param {string} code
 * @returns {Problem}
 */
const local = (code, retryable = true) =>
  ({ code, detail: "", status: 0, retryable, retryAfter: null, charged: null });

/** @returns {Outcome} */
const refused = (/** @type {string} */ code, retryable = true) =>
  ({ kind: "refused", problem: local(code, retryable) });

/** @returns {Outcome} */
const incomplete = (/** @type {string} */ code) => ({ kind: "incomplete", problem: local(code) });
