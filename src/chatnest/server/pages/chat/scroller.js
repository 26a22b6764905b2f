// Keeps the end in view while an answer grows, if the reader was at the end.

const NEAR = 40; // maximum pixels from the end that count as the end

export class Scroller {
  #pinned = false;

  /**
   * @param {HTMLElement} element the scrolling element
   * @param {HTMLElement} jump the button that scrolls to the end
   */
  constructor(element, jump) {
    this.element = element;
    this.jump = jump;
    element.addEventListener("scroll", () => this.#look(), { passive: true });
    jump.addEventListener("click", () => {
      this.toEnd();
      element.focus({ preventScroll: true }); // the button disappears, so move the focus
    });
    // Stay at the end when the size changes: the composer grows, the device turns, a keyboard opens.
    new ResizeObserver(() => this.follow()).observe(element);
  }

  /** Called when the content has grown. */
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
