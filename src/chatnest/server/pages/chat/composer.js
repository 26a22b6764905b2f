// Where a message is written: the box, its keys, and the two buttons.

import { draft } from "./conversation.js";

export class Composer {
  #running = false;
  #ready = false;

  /**
   * @param {{form: HTMLFormElement, box: HTMLTextAreaElement, send: HTMLButtonElement,
   *   stop: HTMLButtonElement}} elements
   * @param {{send: (text: string) => void, stop: () => void}} page
   */
  constructor({ form, box, send, stop }, page) {
    this.box = box;
    this.send = send;
    this.stop = stop;
    this.text = draft.read();
    box.addEventListener("input", () => this.#changed());
    box.addEventListener("keydown", (event) => {
      // An Enter that ends the choice of a character (IME) is not ours; Safari says so by 229 only.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      form.requestSubmit();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.sendable) page.send(this.box.value.trim());
    });
    stop.addEventListener("click", (event) => {
      // The second click of a double click on Send lands here, and was not meant.
      if (event.detail < 2) page.stop();
    });
    // A click beside the text, but within the frame, is meant for the text.
    form.addEventListener("click", (event) => event.target === form && box.focus());
  }

  get text() {
    return this.box.value;
  }

  set text(text) {
    this.box.value = text;
    this.#changed();
  }

  get sendable() {
    return this.#ready && !this.#running && this.box.value.trim() !== "";
  }

  set ready(/** @type {boolean} */ ready) {
    this.#ready = ready;
    this.#changed();
  }

  /** The button that fits is shown, and has the focus if the other one had it. */
  set running(/** @type {boolean} */ running) {
    const active = document.activeElement;
    this.#running = running;
    this.send.hidden = running;
    this.stop.hidden = !running;
    if (running && active === this.send) this.stop.focus();
    if (!running && active === this.stop) this.box.focus();
    this.#changed();
  }

  focus() {
    this.box.focus();
    this.box.setSelectionRange(this.box.value.length, this.box.value.length);
  }

  #changed() {
    this.send.disabled = !this.sendable;
    this.box.style.height = "auto"; // or it would never become smaller
    this.box.style.height = `${this.box.scrollHeight}px`; // the stylesheet has the maximum
    draft.save(this.box.value);
  }
}
