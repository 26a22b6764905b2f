// The meter under the composer: the remaining tokens and requests, and the time of the next reset.

import { span } from "./time.js";

/**
 * @typedef {{name: string, unit: string, limit: number, used: number, held: number,
 *   remaining: number, window: number | null, resets_at: string | null,
 *   reset_after: number | null}} Limit
 * @typedef {{profile: string, profiles: string[], max_tokens_per_request: number,
 *   max_output_tokens: number, limits: Limit[]}} Limits
 */

const number = new Intl.NumberFormat("en");

export class LimitsMeter {
  /** @type {Limit[]} */
  #limits = [];
  #receivedAt = 0;
  #resets = 0;

  /**
   * @param {{root: HTMLElement, bar: HTMLElement, tokens: HTMLElement, requests: HTMLElement}} elements
   * @param {() => void} onReset called when a limit has reset, so that the shown values are outdated
   */
  constructor({ root, bar, tokens, requests }, onReset) {
    this.root = root;
    this.bar = bar;
    this.tokens = tokens;
    this.requests = requests;
    this.onReset = onReset;
    window.setInterval(() => this.#draw(), 1000); // writes only what has changed
  }

  /** @param {Limits} limits */
  show({ limits }) {
    this.#limits = limits;
    this.#receivedAt = Date.now();
    this.root.hidden = false;
    this.#draw();
    this.#awaitReset();
  }

  /** Hides the meter when the limits could not be fetched, rather than showing old values. */
  hide() {
    this.#limits = [];
    window.clearTimeout(this.#resets);
    this.root.hidden = true;
  }

  /** Whether the server still held a reservation. */
  get unsettled() {
    return this.#limits.some(({ held }) => held > 0);
  }

  #draw() {
    const tokens = tightest(this.#limits, "tokens");
    const requests = tightest(this.#limits, "requests");
    write(this.tokens, tokens ? this.#sentence(tokens) : "");
    write(this.requests, requests ? this.#sentence(requests) : "");
    this.bar.hidden = !tokens;
    if (!tokens) return;
    const share = Math.max(0, Math.min(1, tokens.remaining / tokens.limit));
    this.bar.style.setProperty("--share", String(share));
    this.bar.classList.toggle("low", share < 0.1);
  }

  /** @param {Limit} limit */
  #sentence({ unit, limit, remaining, window: seconds, reset_after: after }) {
    const period = periodName(seconds);
    const left = remaining > 0 ? `${number.format(remaining)} of ${number.format(limit)}` : "No";
    const words = `${left} ${unit} left${period}`;
    const wait = after === null ? 0 : after - (Date.now() - this.#receivedAt) / 1000;
    // A limit per minute resets before the text is read, so show its reset only when nothing remains.
    const worthSaying = wait > 0 && (remaining <= 0 || (seconds ?? 0) > 3600);
    return worthSaying ? `${words} · ${seconds === 86400 ? "resets in" : "more in"} ${span(wait)}` : words;
  }

  #awaitReset() {
    window.clearTimeout(this.#resets);
    const waits = this.#limits.flatMap(({ reset_after: after }) => after ?? []);
    if (waits.length === 0) return;
    // At most once every ten seconds: an approximate value is enough.
    const wait = Math.max(10, Math.min(...waits) + 1);
    this.#resets = window.setTimeout(this.onReset, Math.min(wait, 86400) * 1000);
  }
}

/**
 * Returns the limit of this unit with the least remaining, if there are several.
 *
 * @param {Limit[]} limits
 * @param {string} unit
 */
function tightest(limits, unit) {
  const same = limits.filter((limit) => limit.unit === unit && limit.window !== null);
  return same.reduce(
    (least, limit) => (least && least.remaining <= limit.remaining ? least : limit),
    /** @type {Limit | null} */ (null),
  );
}

/** @param {number | null} seconds */
function periodName(seconds) {
  if (seconds === 60) return " this minute";
  if (seconds === 3600) return " this hour";
  if (seconds === 86400) return " today";
  return seconds ? ` in ${span(seconds)}` : "";
}

/**
 * @param {HTMLElement} element
 * @param {string} text
 */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
