// Markdown to safe DOM, block by block, so that a token does not redraw a whole answer.
//
// Three guards, each of which stops the usual attacks alone: HTML in the Markdown is treated as text,
// DOMPurify reduces the output to a short list of tags, and the page's CSP forbids the rest.

import { Marked } from "./vendor/marked.esm.js";
import DOMPurify from "./vendor/purify.es.mjs";
import { copyButton } from "./clipboard.js";

const marked = new Marked({
  gfm: true,
  tokenizer: {
    html: () => undefined, // an HTML block becomes a paragraph
    tag(source) {
      const lineBreak = /^<br\s*\/?>/i.exec(source); // models use <br> inside tables
      return lineBreak ? { type: "br", raw: lineBreak[0] } : undefined;
    },
  },
  renderer: {
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + 2); // the page itself uses h1 and h2
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    // An image would send a request to any address the model chose; a link needs a click.
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
 * One answer's text as DOM, updated by `show`. The DOM depends on the text alone, not on the pieces
 * it arrived in: an unchanged block keeps its elements, any other block is drawn again.
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
      drawings = null; // the nesting exceeds the stack
    }
    if (drawings) this.#update(drawings);
    else this.#showPlain(text);
  }

  /** Shows the plain text if its Markdown cannot be drawn. @param {string} text */
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
 * The complete input of a block's DOM. The block's Markdown alone is not enough, because later text
 * may define a link in it, or stop defining one as it grows.
 *
 * @typedef {{language: string, code: string} | {html: string}} Drawing
 */

/**
 * @param {string} text
 * @returns {Drawing[] | null} null if it is nested too deep. The limit does not depend on the stack.
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
 * Updates a growing code block, the usual case of a long answer, by changing only its text. That keeps
 * its scroll position and the focus on its button.
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
      link.replaceWith(...link.childNodes); // the address is not allowed: keep the text only
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
 * @param {string} language "" if none is named
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

/** @param {string} text the code; the parser may have added a final newline */
const shownCode = (text) => text.replace(/\n$/, "");

/**
 * Makes a horizontally scrolling element reachable by keyboard.
 *
 * @param {HTMLElement} element
 * @param {string} label
 */
function makeScrollable(element, label) {
  element.tabIndex = 0;
  element.setAttribute("role", "region");
  element.setAttribute("aria-label", label);
}

/** @param {string | undefined} info the text after the fence */
const languageOf = (info) => /^[\w+#.-]{1,24}/.exec(info ?? "")?.[0] ?? "";

/** @param {string} text */
const escaped = (text) =>
  text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
