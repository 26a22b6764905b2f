// One turn on the page: the question, the growing answer, and a notice about its end.

import { copyButton } from "./clipboard.js";
import { MarkdownView } from "./markdown.js";
import { explain, explainFinish } from "./problems.js";
import { countdown, span } from "./time.js";

/** @typedef {import("./conversation.js").Turn} Turn */

const template = /** @type {HTMLTemplateElement} */ (document.getElementById("turn"));

export class TurnView {
  #stopCountdown = () => {};
  #frame = 0;
  #busyUntil = 0;
  #shown = "";

  /**
   * @param {Turn} turn
   * @param {{retry: (turn: Turn) => void, reuse: (turn: Turn) => void,
   *   announce: (text: string) => void, drawn: () => void}} page
   */
  constructor(turn, page) {
    this.turn = turn;
    this.page = page;
    const copy = /** @type {DocumentFragment} */ (template.content.cloneNode(true));
    this.element = /** @type {HTMLElement} */ (copy.firstElementChild);
    this.#part("bubble").textContent = turn.question;
    this.prose = new MarkdownView(this.#part("prose"));
    this.#part("foot").prepend(copyButton("Copy answer", () => turn.answer));
    this.#part("retry").addEventListener("click", () => page.retry(turn));
    this.#part("reuse").addEventListener("click", () => page.reuse(turn));
  }

  /** @param {string} name */
  #part(name) {
    return /** @type {HTMLElement} */ (this.element.querySelector(`.${name}`));
  }

  /** Draws new text with the next animation frame. Further calls before that frame have no effect. */
  grow() {
    if (!this.#frame) this.#frame = requestAnimationFrame(this.#draw);
  }

  #draw = () => {
    this.#frame = 0;
    const start = performance.now();
    if (start < this.#busyUntil) {
      this.grow();
      return;
    }
    this.prose.show(this.turn.answer);
    this.#part("writing-text").textContent = "Writing";
    this.page.drawn();
    // A very long answer is slow to draw, so leave two thirds of the time to other work.
    this.#busyUntil = performance.now() + 2 * (performance.now() - start);
  };

  /**
   * Draws the turn after its state has changed.
   *
   * @param {{last: boolean}} where only the last turn can be retried
   */
  update({ last }) {
    const { turn } = this;
    const shown = JSON.stringify([last, turn]);
    if (shown === this.#shown) return; // an unchanged turn keeps its selection and focus
    this.#shown = shown;
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#stopCountdown();
    const running = turn.state === "running";
    this.prose.show(turn.answer);
    this.element.dataset.state = turn.state;
    this.#part("prose").hidden = !turn.answer && !running;
    this.#part("answer").setAttribute("aria-busy", String(running));
    this.#part("writing").hidden = !running;
    this.#part("writing-text").textContent = turn.answer ? "Writing" : "Waiting for the first word";
    this.#showFoot(running);
    this.#showNotice(last);
  }

  #showFoot(/** @type {boolean} */ running) {
    const { answer, usage } = this.turn;
    this.#part("foot").hidden = running || !answer;
    const about = usage?.source === "estimated" ? "about " : "";
    this.#part("foot-text").textContent = usage?.total_tokens
      ? `${about}${usage.total_tokens.toLocaleString("en")} tokens`
      : "";
  }

  #showNotice(/** @type {boolean} */ last) {
    const notice = noticeOf(this.turn);
    this.#part("notice").hidden = !notice;
    if (!notice) return;
    this.#part("notice").dataset.kind = notice.kind;
    this.#part("notice-title").textContent = notice.title;
    this.#part("notice-text").textContent = notice.text;
    const retry = /** @type {HTMLButtonElement} */ (this.#part("retry"));
    const reuse = this.#part("reuse");
    retry.hidden = !(last && notice.retryable);
    reuse.hidden = !notice.reusable || (this.turn.state !== "refused" && !last);
    reuse.textContent = this.turn.state === "refused" ? "Edit message" : "Use message again";
    this.#part("notice-actions").hidden = retry.hidden && reuse.hidden;
    if (!retry.hidden) this.#awaitRetry(retry);
  }

  /** @param {HTMLButtonElement} retry */
  #awaitRetry(retry) {
    let waited = false;
    this.#stopCountdown = countdown(this.turn.retryAt ?? 0, (seconds) => {
      retry.disabled = seconds > 0;
      retry.textContent = seconds > 0 ? `Retry in ${span(seconds)}` : "Retry";
      if (seconds > 0) waited = true;
      else if (waited) this.page.announce("You can retry now.");
    });
  }

  remove() {
    cancelAnimationFrame(this.#frame);
    this.#stopCountdown();
    this.element.remove();
  }
}

/**
 * Returns a notice about a turn's end, or null if it needs none.
 *
 * @param {Turn} turn
 */
export function noticeOf({ state, answer, problem, usage }) {
  if (state === "stopped") {
    return { kind: "quiet", title: "Stopped", text: "", retryable: true, reusable: !answer };
  }
  if (problem && (state === "refused" || state === "incomplete")) {
    const title = state === "refused" ? "Not sent" : answer ? "Incomplete" : "No answer";
    const { retryable } = problem;
    return { kind: "problem", title, text: explain(problem, state), retryable, reusable: true };
  }
  const finish = explainFinish(usage?.finish_reason);
  return finish ? { kind: "quiet", title: "", text: finish, retryable: false, reusable: false } : null;
}
