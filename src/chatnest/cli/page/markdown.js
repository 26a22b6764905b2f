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

/** One answer's text as DOM, brought up to date by `show`. */
export class MarkdownView {
  /** @type {{raw: string, element: HTMLElement}[]} */
  #blocks = [];

  /** @param {HTMLElement} element */
  constructor(element) {
    this.element = element;
  }

  /**
   * @param {string} text
   * @param {{whole?: boolean}} [options] whole: make every block anew, for what came later may change
   *   it (a link's definition); for the last call
   */
  show(text, { whole = false } = {}) {
    let tokens;
    try {
      tokens = marked.lexer(text);
      if (whole && Object.keys(tokens.links).length > 0) this.#drop(0);
      this.#update(tokens.filter(({ type }) => type !== "space" && type !== "def"));
    } catch {
      // Nested deeper than the stack, for one. The words still count.
      this.#blocks = [];
      const plain = document.createElement("p");
      plain.className = "plain";
      plain.textContent = text;
      this.element.replaceChildren(plain);
    }
  }

  /** @param {any[]} tokens */
  #update(tokens) {
    if (this.#blocks.length === 0) this.element.replaceChildren();
    tokens.forEach((token, index) => {
      const old = this.#blocks[index];
      if (old?.raw === token.raw) return;
      if (old && extendCode(old.element, token)) {
        old.raw = token.raw;
        return;
      }
      const element = block(token);
      if (old) old.element.replaceWith(element);
      else this.element.append(element);
      this.#blocks[index] = { raw: token.raw, element };
    });
    this.#drop(tokens.length);
  }

  /** @param {number} from */
  #drop(from) {
    for (const { element } of this.#blocks.splice(from)) element.remove();
  }
}

/** @param {any} token a top-level token of the lexer */
function block(token) {
  if (token.type === "code") return codeBlock(token.text, languageOf(token.lang));
  const element = document.createElement("div");
  element.className = "block";
  element.append(clean(marked.parser([token])));
  return element;
}

/**
 * The usual case of a long answer: a code block that grows. Its scroll position and the focus on its
 * button survive when only the text is changed.
 *
 * @param {HTMLElement} element
 * @param {any} token
 */
function extendCode(element, token) {
  if (token.type !== "code" || element.dataset.language !== languageOf(token.lang)) return false;
  const code = element.querySelector("code");
  if (!code) return false;
  code.textContent = token.text;
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
  code.textContent = text.replace(/\n$/, "");
  pre.append(code);
  head.append(name, copyButton("Copy code", () => code.textContent ?? ""));
  figure.append(head, pre);
  return figure;
}

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
