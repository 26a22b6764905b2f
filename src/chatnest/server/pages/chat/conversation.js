// The conversation: turns of question and answer, stored until the tab is closed. No DOM.

/**
 * @typedef {"running" | "done" | "stopped" | "refused" | "incomplete"} State
 * @typedef {{id: string, question: string, answer: string, state: State, profile: string,
 *   problem: import("./endpoint.js").Problem | null, retryAt: number | null,
 *   usage: import("./endpoint.js").Usage | null, run: string}} Turn
 */

const KEY = "chatnest.conversation";
const DRAFT = "chatnest.draft";

// The server trims by profile; these limits keep a long conversation below its body limit.
const MOST_MESSAGES = 40;
const MOST_CHARACTERS = 60_000;

export class Conversation {
  /** @type {Turn[]} */
  turns = [];

  constructor() {
    const kept = read(KEY);
    if (Array.isArray(kept)) this.turns = kept;
    for (const turn of this.turns) {
      if (turn.state !== "running" || turn.run) continue; // the server may still have the run
      turn.state = "incomplete"; // the reload ended that stream
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
   * Returns the messages of a request for `turn`: the conversation before it, trimmed from the start,
   * and its question. Turns without an answer are left out.
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

/** The text in the composer, stored so that a reload keeps it. */
export const draft = {
  read: () => String(read(DRAFT) ?? ""),
  save: (/** @type {string} */ text) => write(DRAFT, text),
};

/** @param {string} key */
function read(key) {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? "null");
  } catch {
    return null; // storage is blocked, or the value is not JSON
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
    // Storage is blocked or full: the page works, but a reload loses the conversation.
  }
}

/** A random id. `crypto.randomUUID` needs a secure context, and this page also works over plain HTTP. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
