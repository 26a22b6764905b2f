// Problems in plain words: a sentence for each code, or the server's detail for an unknown code.

/** @typedef {import("./endpoint.js").Problem} Problem */

/** @type {Record<string, string>} */
const BEFORE = {
  unauthenticated: "You are not signed in. Reload the page to sign in, or ask this chat’s operator for access.",
  unknown_key: "You are no longer signed in. Sign in with your key, then send this again.",
  forbidden: "Your account may not use this chat.",
  forbidden_profile: "Your account may not use this profile. Choose another one and send again.",
  body_too_large: "This is too much for one message. Shorten it or start a new chat.",
  request_too_large:
    "This is too long for the chosen profile. Shorten it, start a new chat, or choose a larger profile.",
  context_length: "The conversation is too long for this model. Shorten it or start a new chat.",
  rate_limited: "You are sending messages faster than this chat allows. Please wait a moment.",
  too_many_streams:
    "Too many of your answers are running, perhaps in another tab. Stop one or wait for it to finish.",
  budget_exhausted: "Today’s tokens are used up. The budget resets at the end of the day.",
  upstream_unavailable: "The model’s provider cannot be reached at the moment.",
  upstream_timeout: "The model’s provider took too long to answer.",
  upstream_overloaded: "The model’s provider is busy at the moment.",
  upstream_error: "The model’s provider failed.",
  upstream_interrupted: "The model’s provider disconnected before the answer began.",
  upstream_rejected: "The model’s provider rejected this message.",
  upstream_bad_response: "The model’s provider sent an invalid answer.",
  upstream_account:
    "This server’s account with the model’s provider does not work. Only its operator can change that.",
  ledger_unavailable: "Usage cannot be counted at the moment, so nothing is sent until it can.",
  overloaded: "This chat is overloaded. Please try again in a few seconds.",
  server_shutdown: "The server is restarting.",
  internal_error: "Something went wrong on the server.",
  slow_body: "Your message took too long to arrive. Check your connection.",
  unreachable: "The server cannot be reached. Check that it is running and that you are online.",
  bad_answer: "The server sent a response that this page does not understand.",
};

/** @type {Record<string, string>} */
const DURING = {
  upstream_interrupted: "The model’s provider disconnected before the end.",
  upstream_timeout: "The model stopped responding before the end.",
  upstream_bad_response: "The model’s provider sent an invalid answer.",
  stream_timeout: "The answer took longer than this chat allows.",
  answer_too_long: "The model exceeded the requested length and was stopped.",
  server_shutdown: "The server restarted before the end.",
  dropped: "The connection was lost before the end.",
  bad_answer: "The server sent something that this page does not understand.",
  reloaded: "The page was closed or reloaded before the end.",
};

/** @type {Record<number, string>} */
const BY_STATUS = {
  401: BEFORE.unauthenticated,
  403: BEFORE.forbidden,
  404: "There is no chat at this address.",
  413: BEFORE.request_too_large,
  429: BEFORE.rate_limited,
  502: BEFORE.upstream_unavailable,
  503: "The server is not available at the moment.",
  504: BEFORE.upstream_timeout,
};

/**
 * @param {Problem} problem
 * @param {"refused" | "incomplete"} when before the answer began, or in the middle of it
 * @returns {string} one or two sentences
 */
export function explain(problem, when) {
  // A stream that started early can fail before the model's first token, so both tables apply.
  const known = when === "refused" ? BEFORE : { ...BEFORE, ...DURING };
  if (Object.hasOwn(known, problem.code)) return known[problem.code] + charge(problem);
  if (problem.detail) return sentence(problem.detail) + charge(problem);
  if (when === "refused" && Object.hasOwn(BY_STATUS, problem.status)) return BY_STATUS[problem.status];
  const rest = when === "refused" ? "The message was not accepted." : "The answer is incomplete.";
  return rest + charge(problem);
}

/** Explains a finish reason, or returns "" if it needs no explanation. */
export function explainFinish(/** @type {string | null | undefined} */ reason) {
  if (reason === "length") return "Cut short: the answer reached the maximum length of this profile.";
  if (reason === "content_filter") return "Cut short by the provider’s content filter.";
  return "";
}

/** Explains the charge. Only an `error` event has one; a refusal costs nothing. */
function charge(/** @type {Problem} */ { charged }) {
  if (charged === null) return "";
  return charged ? " The tokens used count towards today’s budget." : " No tokens were counted.";
}

function sentence(/** @type {string} */ text) {
  const trimmed = text.trim();
  const start = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}
