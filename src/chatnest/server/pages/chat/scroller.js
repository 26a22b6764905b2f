// Keeps the end in view while an answer grows, but only for who is looking at the end.

const NEAR = 40; // pixels that still count as the end

export class Scroller {
  #pinned = false;

  /**
   * @param {HTMLElement} element what scrolls
   * @param {HTMLElement} jump the button that leads to the end
   */
  constructor(element, jump) {
    this.element = element;
    this.jump = jump;
    element.addEventListener("scroll", () => this.#look(), { passive: true });
    jump.addEventListener("click", () => {
      this.toEnd();
      element.focus({ preventScroll: true }); // the button goes, so the focus must not go with it
    });
    // The composer grows, the window turns, a keyboard opens: the end stays the end.
    new ResizeObserver(() => this.follow()).observe(element);
  }

  /** The content has grown. */
  follow() {
    if (this.#pinned) this.toEnd();
    else this.#offer();
  }

  toEnd() {
    this.#pinned = true;
    this.jump.hidden = true;
    this.element.scrollTop = this.element.scrollHeight;
  }

  toStart() {
    this.#pinned = false;
    this.jump.hidden = true;
    this.element.scrollTop = 0;
  }

  get #atEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  #look() {
    this.#pinned = this.#atEnd;
    this.#offer();
  }

  #offer() {
    // Before the first question there is nothing to jump to.
    this.jump.hidden = this.#atEnd || !this.element.querySelector(".turn");
  }
}
