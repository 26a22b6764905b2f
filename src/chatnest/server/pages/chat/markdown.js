// Markdown to safe DOM, a block at a time, so that a growing answer is not made anew with each token.
//
// Three guards, each enough by itself for the usual attacks: the Markdown here has no HTML in it (tags
// are text), what comes out is cleaned by DOMPurify to a short list, and the page's CSP forbids the rest.

import { Marked } from "./vendor/marked.esm.js";
import DOMPurify from "./vendor/purify.es.mjs";
import { copyButton } from "./clipboard.js";

const marked = new Marked({
  gfm: true,
  tokenizer: {
    html: () => undefined, // not an HTML block: a paragraph
    tag(source) {
      const lineBreak = /^<br\s*\/?>/i.exec(source); // models use it inside tables
      return lineBreak ? { type: "br", raw: lineBreak[0] } : undefined;
    },
  },
  renderer: {
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + 2); // the page itself has used h1 and h2
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    // An image would be a request to wherever the model says: a link asks the reader first.
    image({ href, text }) {
      const words = escaped(text || "image");
      return `<a href="${escaped(href)}">${words}</a>`;
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});

const CLEAN = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["align", "class", "href", "start", "title"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ADD_URI_SAFE_ATTR: ["align", "start"],
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

const DEEPEST = 100;

/**
 * One answer's text as DOM, brought up to date by `show`. What is there is a function of the text
 * alone, however it came: a block stays only if it would be drawn the same again.
 */
export class MarkdownView {
  /** @type {{drawing: Drawing, element: HTMLElement}[]} */
  #blocks = [];

  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
  }

  /** @param {string} text */
  show(text) {
    let drawings;
    try {
      drawings = drawingsOf(text);
    } catch {
      drawings = null; // nested deeper than the stack
    }
    if (drawings) this.#update(drawings);
    else this.#showPlain(text);
  }

  /** The words still count, where their Markdown cannot be drawn. @param {string} text */
  #showPlain(text) {
    this.#blocks = [];
    const plain = document.createElement("p");
    plain.className = "plain";
    plain.textContent = text;
    this.element.replaceChildren(plain);
  }

  /** @param {Drawing[]} drawings */
  #update(drawings) {
    if (this.#blocks.length === 0) this.element.replaceChildren();
    drawings.forEach((drawing, index) => {
      const old = this.#blocks[index];
      if (old && isSame(old.drawing, drawing)) return;
      if (old && extendCode(old, drawing)) {
        old.drawing = drawing;
        return;
      }
      const element = block(drawing);
      if (old) old.element.replaceWith(element);
      else this.element.append(element);
      this.#blocks[index] = { drawing, element };
    });
    for (const { element } of this.#blocks.splice(drawings.length)) element.remove();
  }
}

/**
 * Everything that a block's DOM is made from. Its Markdown is not enough: what comes later may define a
 * link in it, and may turn out not to have done so.
 *
 * @typedef {{language: string, code: string} | {html: string}} Drawing
 */

/**
 * @param {string} text
 * @returns {Drawing[] | null} null where it is nested too deep; where the stack ends is chance
 */
function drawingsOf(text) {
  const tokens = marked.lexer(text).filter(({ type }) => type !== "space" && type !== "def");
  if (isDeeper(tokens, DEEPEST)) return null;
  return tokens.map((token) =>
    token.type === "code"
      ? { language: languageOf(token.lang), code: token.text }
      : { html: /** @type {string} */ (marked.parser([token])) },
  );
}

/**
 * @param {any[]} tokens
 * @param {number} levels
 * @returns {boolean}
 */
function isDeeper(tokens, levels) {
  if (levels < 0) return tokens.length > 0;
  return tokens.some(
    (token) =>
      (token.tokens && isDeeper(token.tokens, levels - 1)) || (token.items && isDeeper(token.items, levels - 1)),
  );
}

/**
 * @param {any} one
 * @param {any} other
 */
const isSame = (one, other) =>
  one.html === other.html && one.language === other.language && one.code === other.code;

/** @param {Drawing} drawing */
function block(drawing) {
  if ("code" in drawing) return codeBlock(drawing.code, drawing.language);
  const element = document.createElement("div");
  element.className = "block";
  element.append(clean(drawing.html));
  return element;
}

/**
 * The usual case of a long answer: a code block that grows. Its scroll position and the focus on its
 * button survive when only the text is changed.
 *
 * @param {{drawing: Drawing, element: HTMLElement}} old
 * @param {Drawing} drawing
 */
function extendCode({ drawing: old, element }, drawing) {
  if (!("code" in old && "code" in drawing) || old.language !== drawing.language) return false;
  const code = /** @type {HTMLElement} */ (element.querySelector("code"));
  code.textContent = shownCode(drawing.code);
  return true;
}

/** @param {string} html */
function clean(html) {
  const fragment = /** @type {DocumentFragment} */ (DOMPurify.sanitize(html, CLEAN));
  for (const link of fragment.querySelectorAll("a")) {
    if (!link.hasAttribute("href")) {
      link.replaceWith(...link.childNodes); // an address we do not open: its words stay
      continue;
    }
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
  }
  for (const pre of fragment.querySelectorAll("pre")) {
    const language = /language-(\S+)/.exec(pre.firstElementChild?.className ?? "")?.[1];
    pre.replaceWith(codeBlock(pre.textContent ?? "", languageOf(language)));
  }
  for (const item of fragment.querySelectorAll("li")) {
    item.classList.toggle("task", /^\s*[☑☐] /.test(item.textContent ?? ""));
  }
  for (const table of fragment.querySelectorAll("table")) {
    const frame = document.createElement("div");
    frame.className = "table";
    makeScrollable(frame, "Table");
    table.replaceWith(frame);
    frame.append(table);
  }
  return fragment;
}

/**
 * @param {string} text
 * @param {string} language "" where none is named
 */
function codeBlock(text, language) {
  const figure = document.createElement("div");
  figure.className = "code";
  figure.dataset.language = language;
  const head = document.createElement("div");
  head.className = "code-head";
  const name = document.createElement("span");
  name.textContent = language || "text";
  const pre = document.createElement("pre");
  makeScrollable(pre, language ? `Code, ${language}` : "Code");
  const code = document.createElement("code");
  code.textContent = shownCode(text);
  pre.append(code);
  head.append(name, copyButton("Copy code", () => code.textContent ?? ""));
  figure.append(head, pre);
  return figure;
}

/** @param {string} text which a parser may have ended with a line of its own */
const shownCode = (text) => text.replace(/\n$/, "");

/**
 * What scrolls sideways must be reachable for those who have no pointer.
 *
 * @param {HTMLElement} element
 * @param {string} label
 */
function makeScrollable(element, label) {
  element.tabIndex = 0;
  element.setAttribute("role", "region");
  element.setAttribute("aria-label", label);
}

/** @param {string | undefined} info what follows the fence */
const languageOf = (info) => /^[\w+#.-]{1,24}/.exec(info ?? "")?.[0] ?? "";

/** @param {string} text */
const escaped = (text) =>
  text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
