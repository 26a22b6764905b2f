// The composer: the message box, its keys, and the two buttons.

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
      // An Enter that ends an IME composition does not submit; Safari marks it by keyCode 229 only.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      form.requestSubmit();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.sendable) page.send(this.box.value.trim());
    });
    stop.addEventListener("click", (event) => {
      // The second click of a double click on Send lands here; ignore it.
      if (event.detail < 2) page.stop();
    });
    // A click on the form's frame focuses the text box.
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

  /** Shows Send or Stop, and moves the focus if the hidden button had it. */
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
    this.box.style.height = "auto"; // lets the box shrink
    this.box.style.height = `${this.box.scrollHeight}px`; // the stylesheet has the maximum
    draft.save(this.box.value);
  }
}
