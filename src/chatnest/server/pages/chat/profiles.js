// The choice of a profile, stored for the next visit.

const KEY = "chatnest.profile";

export class ProfileChoice {
  /** The profile used if the user has not chosen one. */
  fallback = "";
  #chosen = stored();

  /**
   * @param {HTMLSelectElement} select
   * @param {() => void} onChange
   */
  constructor(select, onChange) {
    this.select = select;
    select.addEventListener("change", () => {
      this.#chosen = select.value;
      store(select.value);
      onChange();
    });
  }

  /** The profile's name, or "" to let the server choose. */
  get name() {
    return this.#chosen || this.fallback;
  }

  /**
   * @param {import("./limits.js").Limits} limits
   */
  offer({ profile, profiles, max_output_tokens: longest }) {
    if (this.#chosen && !profiles.includes(this.#chosen)) this.forget();
    this.fallback = this.fallback || profile;
    const options = profiles.map((name) => {
      const label = name.charAt(0).toUpperCase() + name.slice(1);
      return new Option(label, name, false, name === profile);
    });
    const same = [...this.select.options].map(({ value }) => value).join() === profiles.join();
    // Replacing the options would close an open list.
    if (same) this.select.value = profile;
    else this.select.replaceChildren(...options);
    this.select.disabled = profiles.length < 2;
    this.select.title = longest ? `Answers of up to ${longest.toLocaleString("en")} tokens` : "";
  }

  /** Drops a choice that the user may no longer use. Returns whether there was one. */
  forget() {
    const had = this.name !== "";
    if (!this.#chosen) this.fallback = ""; // the default is not allowed either: let the server choose
    this.#chosen = "";
    store("");
    return had;
  }
}

function stored() {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // storage is blocked, so the choice lasts until a reload
  }
}

/** @param {string} name */
function store(name) {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // As above.
  }
}
