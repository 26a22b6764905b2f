// A parser from the bytes of a text/event-stream to its events. No DOM, no fetch.

/** @typedef {{name: string, data: string, id: string}} StreamEvent */

/** Parses text in pieces of any size to complete events, by the HTML standard's event stream rules. */
export class EventParser {
  #rest = "";
  #name = "";
  #id = "";
  /** @type {string[]} */
  #data = [];

  /**
   * @param {string} text
   * @returns {Generator<StreamEvent>}
   */
  *push(text) {
    // A CR at the very end may be the first half of a CRLF, so it waits for the next piece.
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const event = this.#take(line);
      if (event) yield event;
    }
  }

  /** @param {string} line */
  #take(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#name = value;
    if (field === "data") this.#data.push(value);
    if (field === "id") this.#id = value;
    return null;
  }

  #dispatch() {
    const event = { name: this.#name || "message", data: this.#data.join("\n"), id: this.#id };
    const something = this.#name !== "" || this.#data.length > 0;
    this.#name = "";
    this.#data = [];
    return something ? event : null;
  }
}

/**
 * Yields the events of a response body until it ends. A frame without its blank line is dropped.
 *
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<StreamEvent>}
 */
export async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder(); // stream: true carries half a character over to the next read
  const parser = new EventParser();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {}); // the body may have ended or failed already
  }
}
