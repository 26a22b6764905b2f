// Signing in with a key, if the server requires one, and signing out.

import { ProblemError } from "./endpoint.js";
import { currentKey, isSendable, keepKey } from "./key.js";
import { explain } from "./problems.js";

const UNKNOWN = "The server does not accept this key. Check it, or ask this chat’s operator for a new one.";

export class SignIn {
  #wanted = false;
  /** The key that this page removed last. */
  #former = "";

  /**
   * @param {{form: HTMLFormElement, box: HTMLInputElement, send: HTMLButtonElement, note: HTMLElement,
   *   out: HTMLButtonElement}} elements
   * @param {{check: (key: string) => Promise<unknown>, signedIn: (again: boolean) => void, signOut: () => void,
   *   announce: (text: string) => void}} page `check` throws ProblemError for an unknown key
   */
  constructor({ form, box, send, note, out }, page) {
    this.form = form;
    this.box = box;
    this.send = send;
    this.note = note;
    this.out = out;
    this.page = page;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#try(box.value.trim());
    });
    out.addEventListener("click", () => {
      page.signOut(); // needs the key, to stop a running answer
      this.ask();
    });
  }

  set wanted(/** @type {boolean} */ wanted) {
    this.#wanted = wanted;
    this.#draw();
  }

  /** Whether a key is required but not stored. */
  get missing() {
    return this.#wanted && !currentKey();
  }

  /** Removes the key and prompts for one. */
  ask(text = "") {
    this.#former = currentKey();
    keepKey("");
    this.box.value = "";
    this.#say(text);
    this.#draw();
    this.box.focus();
  }

  /** @param {string} key */
  async #try(key) {
    if (!key || this.send.disabled) return;
    this.send.disabled = true;
    const problem = isSendable(key) ? await this.#problemWith(key) : UNKNOWN;
    this.send.disabled = false;
    this.#say(problem);
    if (problem) {
      this.box.select();
      this.box.focus();
      return;
    }
    keepKey(key);
    this.box.value = "";
    this.#draw();
    this.page.announce("Signed in.");
    this.page.signedIn(key === this.#former);
  }

  /** @param {string} key */
  async #problemWith(key) {
    try {
      await this.page.check(key);
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      const { problem } = error;
      if (problem.status === 401) return UNKNOWN;
      // Any other error from the chat means that the key was accepted.
      if (problem.code !== "ledger_unavailable" && problem.status !== 403) return explain(problem, "refused");
    }
    return "";
  }

  /** @param {string} text */
  #say(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
    this.box.setAttribute("aria-invalid", String(Boolean(text)));
    if (text) this.page.announce(text);
  }

  #draw() {
    this.form.hidden = !this.missing;
    this.out.hidden = !this.#wanted || !currentKey();
  }
}
