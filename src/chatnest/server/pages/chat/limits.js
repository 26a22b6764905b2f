// What is left and when it comes back: the quiet meter under the composer.

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
   * @param {() => void} onReset something has come back: what is shown is no longer true
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

  /** The limits could not be had: say nothing rather than something old. */
  hide() {
    this.#limits = [];
    window.clearTimeout(this.#resets);
    this.root.hidden = true;
  }

  /** Whether the server was still counting something as in use. */
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
    // A minute comes back by itself before anyone has read about it, unless they wait for it.
    const worthSaying = wait > 0 && (remaining <= 0 || (seconds ?? 0) > 3600);
    return worthSaying ? `${words} · ${seconds === 86400 ? "resets in" : "more in"} ${span(wait)}` : words;
  }

  #awaitReset() {
    window.clearTimeout(this.#resets);
    const waits = this.#limits.flatMap(({ reset_after: after }) => after ?? []);
    if (waits.length === 0) return;
    // Not more often than every ten seconds: this is a hint, not a clock.
    const wait = Math.max(10, Math.min(...waits) + 1);
    this.#resets = window.setTimeout(this.onReset, Math.min(wait, 86400) * 1000);
  }
}

/**
 * The limit of this unit that ends first, where there are several (a person's, everybody's).
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
