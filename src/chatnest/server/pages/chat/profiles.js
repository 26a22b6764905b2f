// The choice of a profile, kept for the next visit.

const KEY = "chatnest.profile";

export class ProfileChoice {
  /** What counts where nothing was chosen. */
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

  /** "" where the server is to choose. */
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
    // An open list would close if its options were exchanged.
    if (same) this.select.value = profile;
    else this.select.replaceChildren(...options);
    this.select.disabled = profiles.length < 2;
    this.select.title = longest ? `Answers of up to ${longest.toLocaleString("en")} tokens` : "";
  }

  /** The choice is no longer open to this person. Returns whether there was one to forget. */
  forget() {
    const had = this.name !== "";
    if (!this.#chosen) this.fallback = ""; // not even the default is: let the server say which
    this.#chosen = "";
    store("");
    return had;
  }
}

function stored() {
  try {
    return localStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // storage is blocked: the choice lasts as long as the page
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
