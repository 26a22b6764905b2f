// The conversation: turns of question and answer, kept for as long as the tab lives. No DOM.

/**
 * @typedef {"running" | "done" | "stopped" | "refused" | "incomplete"} State
 * @typedef {{id: string, question: string, answer: string, state: State, profile: string,
 *   problem: import("./endpoint.js").Problem | null, retryAt: number | null,
 *   usage: import("./endpoint.js").Usage | null, run: string}} Turn
 */

const KEY = "chatnest.conversation";
const DRAFT = "chatnest.draft";

// The server trims to its profile anyway; this keeps a long evening's talk below its body bound.
const MOST_MESSAGES = 40;
const MOST_CHARACTERS = 60_000;

export class Conversation {
  /** @type {Turn[]} */
  turns = [];

  constructor() {
    const kept = read(KEY);
    if (Array.isArray(kept)) this.turns = kept;
    for (const turn of this.turns) {
      if (turn.state !== "running" || turn.run) continue; // the server may still know it
      turn.state = "incomplete"; // nobody is listening to that stream any more
      turn.problem = { code: "reloaded", detail: "", status: 0, retryable: true, retryAfter: null, charged: null };
    }
  }

  /**
   * @param {string} question
   * @param {string} profile
   */
  add(question, profile) {
    /** @type {Turn} */
    const turn = {
      id: newId(), question, answer: "", state: "running", profile,
      problem: null, retryAt: null, usage: null, run: "",
    };
    this.turns.push(turn);
    return turn;
  }

  /** @param {Turn} turn */
  remove(turn) {
    this.turns = this.turns.filter((other) => other !== turn);
  }

  clear() {
    this.turns = [];
    this.save();
  }

  get last() {
    return this.turns.at(-1);
  }

  /**
   * What goes to the server to have `turn` answered: what was said before it, newest kept, and its
   * question. Turns without an answer are left out: the model never took part in them.
   *
   * @param {Turn} turn
   */
  messagesFor(turn) {
    const messages = [{ id: turn.id, role: "user", content: turn.question }];
    let characters = turn.question.length;
    for (const past of this.turns.slice(0, this.turns.indexOf(turn)).reverse()) {
      if (!past.answer) continue;
      characters += past.question.length + past.answer.length;
      if (characters > MOST_CHARACTERS || messages.length + 2 > MOST_MESSAGES) break;
      messages.unshift(
        { id: past.id, role: "user", content: past.question },
        { id: `${past.id}-answer`, role: "assistant", content: past.answer },
      );
    }
    return messages;
  }

  save() {
    write(KEY, this.turns);
  }
}

/** What is being typed, so that a reload does not lose it. */
export const draft = {
  read: () => String(read(DRAFT) ?? ""),
  save: (/** @type {string} */ text) => write(DRAFT, text),
};

/** @param {string} key */
function read(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? "null");
  } catch {
    return null; // blocked, or not ours
  }
}

/**
 * @param {string} key
 * @param {unknown} value
 */
function write(key, value) {
  try {
    sessionStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Blocked or full: the page goes on, only a reload will not find it.
  }
}

/** `crypto.randomUUID` exists in secure contexts only, and this page is also served over plain HTTP. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
