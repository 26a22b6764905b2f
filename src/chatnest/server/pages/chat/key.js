// The user's key: stored until sign-out or until the tab closes, sent only in a header. No DOM.

const STORE = "chatnest.key";

let kept = stored();

/** The stored key, or "". It may no longer be valid. */
export const currentKey = () => kept;

/** @param {string} key "" removes the stored key */
export function keepKey(key) {
  kept = key;
  try {
    if (key) sessionStorage.setItem(STORE, key);
    else sessionStorage.removeItem(STORE);
  } catch {
    // Storage is blocked, so a reload prompts for the key again.
  }
}

/**
 * Returns the header fields that authenticate a request.
 *
 * @param {string} key
 * @returns {Record<string, string>}
 */
export const authorization = (key = kept) => (key ? { Authorization: `Bearer ${key}` } : {});

/** Whether a header field can carry this key. @param {string} key */
export const isSendable = (key) => /^[\x21-\x7e]{1,4096}$/.test(key);

function stored() {
  try {
    return sessionStorage.getItem(STORE) ?? "";
  } catch {
    return "";
  }
}
