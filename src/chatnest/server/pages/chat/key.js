// The key of the person in this tab: kept until they sign out or close it, sent in a header alone. No DOM.

const STORE = "chatnest.key";

let kept = stored();

/** "" where there is none. One that is kept may not be valid any more. */
export const currentKey = () => kept;

/** @param {string} key "" forgets the one there is */
export function keepKey(key) {
  kept = key;
  try {
    if (key) sessionStorage.setItem(STORE, key);
    else sessionStorage.removeItem(STORE);
  } catch {
    // Storage is blocked: a reload asks for the key again.
  }
}

/**
 * The header fields of a request, by its key.
 *
 * @param {string} key
 * @returns {Record<string, string>}
 */
export const authorization = (key = kept) => (key ? { Authorization: `Bearer ${key}` } : {});

/** Whether a header field can carry it: what cannot is nobody's key. @param {string} key */
export const isSendable = (key) => /^[\x21-\x7e]{1,4096}$/.test(key);

function stored() {
  try {
    return sessionStorage.getItem(STORE) ?? "";
  } catch {
    return "";
  }
}
