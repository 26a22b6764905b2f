// The page: connects the composer, the conversation, the endpoint and their views.

import { Composer } from "./composer.js";
import { Conversation, newId } from "./conversation.js";
import { ProblemError, ask, fetchLimits, fetchSettings, resume } from "./endpoint.js";
import { currentKey } from "./key.js";
import { LimitsMeter } from "./limits.js";
import { explain } from "./problems.js";
import { ProfileChoice } from "./profiles.js";
import { Scroller } from "./scroller.js";
import { SignIn } from "./signin.js";
import { TurnView, noticeOf } from "./turnview.js";

/**
 * @typedef {import("./conversation.js").Turn} Turn
 * @typedef {import("./endpoint.js").Settings} Settings
 */

/** @param {string} id */
const element = (id) => /** @type {any} */ (document.getElementById(id));

/** @type {Settings | null} null until they are fetched */
let settings = null;
/** @type {AbortController | null} aborts the running answer */
let running = null;

/** @type {Map<Turn, TurnView>} */
const views = new Map();
const conversation = new Conversation();
const scroller = new Scroller(element("scroller"), element("jump"));
const composer = new Composer(
  { form: element("composer"), box: element("question"), send: element("send"), stop: element("stop") },
  { send, stop },
);
const profile = new ProfileChoice(element("profile"), refreshLimits);
const meter = new LimitsMeter(
  {
    root: element("limits"),
    bar: element("limits-bar"),
    tokens: element("limits-tokens"),
    requests: element("limits-requests"),
  },
  () => document.hidden || refreshLimits(),
);

const signIn = new SignIn(
  {
    form: element("sign-in"),
    box: element("key"),
    send: element("sign-in-send"),
    note: element("sign-in-note"),
    out: element("sign-out"),
  },
  { check: (key) => fetchLimits(settings?.chat_path ?? "", "", key), signedIn, signOut, announce },
);

/** Announces a text once to screen readers, politely. Never used for the tokens of an answer. */
function announce(/** @type {string} */ text) {
  const status = element("status");
  status.textContent = "";
  requestAnimationFrame(() => (status.textContent = text)); // a repeated text is announced again
}

// ---------------------------------------------------------------- questions

function send(/** @type {string} */ question) {
  composer.text = "";
  // A split emoji leaves a lone surrogate, which a server may reject in JSON.
  const turn = conversation.add(question.toWellFormed(), profile.name);
  show(turn);
  run(turn);
}

/** @param {Turn} turn */
function retry(turn) {
  if (running || !settings || signIn.missing) return;
  turn.profile = profile.name;
  run(turn);
  composer.focus(); // the pressed button disappears
}

/** @param {Turn} turn a turn whose answer was still running at a reload */
const goOn = (turn) => run(turn, turn.run);

/**
 * @param {Turn} turn
 * @param {string} known the run to resume, or "" for a new run
 */
async function run(turn, known = "") {
  if (running || !settings) return;
  const controller = new AbortController();
  const before = turn.answer; // a refused retry keeps the previous answer
  running = controller;
  Object.assign(turn, { state: "running", answer: "", problem: null, retryAt: null, usage: null, run: known });
  composer.running = true;
  draw();
  scroller.toEnd();
  announce("Waiting for the answer.");
  const request = { messages: conversation.messagesFor(turn), profile: turn.profile };
  const reading = {
    signal: controller.signal,
    onRun: (/** @type {string} */ id) => {
      turn.run = id;
      conversation.save();
    },
    onToken: (/** @type {string} */ text) => {
      if (!turn.answer) refreshLimits(false); // the tokens are reserved now
      turn.answer += text;
      views.get(turn)?.grow();
    },
  };
  const outcome = known
    ? await resume(settings.chat_path, known, reading)
    : await ask(settings.chat_path, request, { ...reading, key: newId() });
  if (running !== controller) return; // a new chat has begun
  running = null;
  composer.running = false;
  end(turn, outcome, before);
  // The server settles a stopped answer shortly after it notices the disconnect.
  if (outcome.kind === "stopped") window.setTimeout(refreshLimits, 300);
  else refreshLimits();
}

/**
 * @param {Turn} turn
 * @param {import("./endpoint.js").Outcome} outcome
 * @param {string} before the answer of the previous attempt, or ""
 */
function end(turn, outcome, before) {
  if ("problem" in outcome && settings?.keys && outcome.problem.code === "unauthenticated") {
    outcome.problem.code = "unknown_key";
    turnedAway();
  }
  turn.state = outcome.kind;
  if (outcome.kind === "done") turn.usage = outcome.usage;
  if ("problem" in outcome) {
    turn.problem = outcome.problem;
    const wait = outcome.problem.retryAfter;
    turn.retryAt = wait === null ? null : Date.now() + wait * 1000;
  }
  if (!turn.answer && before && outcome.kind !== "done") {
    turn.answer = before;
    turn.state = outcome.kind === "stopped" ? "stopped" : "incomplete";
  }
  draw();
  scroller.follow();
  announceEnd(turn);
}

/** @param {Turn} turn */
function announceEnd(turn) {
  const notice = noticeOf(turn);
  const words = turn.answer.split(/\s+/).filter(Boolean).length;
  const finished = turn.state === "done" ? `The answer is complete, ${words} words.` : "";
  announce([finished, notice?.title && `${notice.title}.`, notice?.text].filter(Boolean).join(" "));
}

function stop() {
  running?.abort();
}

/** Puts a question back into the composer. @param {Turn} turn */
function reuse(turn) {
  const typed = composer.text.trim();
  composer.text = typed ? `${turn.question}\n\n${typed}` : turn.question;
  if (turn.state === "refused") {
    conversation.remove(turn); // the model never received it
    views.get(turn)?.remove();
    views.delete(turn);
  }
  draw();
  composer.focus();
}

function newChat() {
  stop();
  running = null;
  composer.running = false;
  for (const view of views.values()) view.remove();
  views.clear();
  conversation.clear();
  draw();
  scroller.toStart();
  composer.focus();
  announce("New chat.");
}

// ---------------------------------------------------------------- signing in and out

/** Enables the composer, once the user is signed in or the server needs no key. */
async function enter() {
  await refreshLimits();
  if (signIn.missing) return; // the stored key is no longer valid
  composer.ready = true;
  const left = conversation.last;
  if (left?.state === "running" && left.run) goOn(left);
}

/** @param {boolean} again whether the same user signed in again */
function signedIn(again) {
  if (!again) newChat(); // the conversation may belong to another user
  composer.focus();
  enter();
}

/** Removes all of the user's data from the tab. */
function signOut() {
  newChat();
  composer.text = "";
  shutOut();
}

/** Signs the user out, because the server no longer accepts the key. */
function turnedAway() {
  shutOut();
  signIn.ask("The server no longer accepts your key.");
}

function shutOut() {
  composer.ready = false;
  meter.hide();
}

// ---------------------------------------------------------------- views

/** @param {Turn} turn */
function show(turn) {
  const view = new TurnView(turn, { retry, reuse, announce, drawn: () => scroller.follow() });
  views.set(turn, view);
  element("turns").append(view.element);
}

function draw() {
  for (const [turn, view] of views) view.update({ last: turn === conversation.last });
  element("empty").hidden = conversation.turns.length > 0;
  element("new-chat").disabled = conversation.turns.length === 0;
  conversation.save();
}

// ---------------------------------------------------------------- the server

async function connect() {
  element("banner").hidden = true;
  try {
    settings = await fetchSettings();
  } catch (error) {
    complain(error);
    return;
  }
  element("model").textContent = settings.model;
  element("model").title = settings.model; // the visible name may be truncated
  element("endpoint").textContent = settings.chat_path;
  element("demo").hidden = !settings.demo;
  document.title = `${settings.model} · chatnest`;
  profile.fallback = settings.default_profile;
  signIn.wanted = settings.keys;
  if (signIn.missing) signIn.ask();
  else await enter();
}

/** @param {unknown} error */
function complain(error) {
  if (!(error instanceof ProblemError)) throw error;
  element("banner-text").textContent = explain(error.problem, "refused");
  element("banner").hidden = false;
  announce(element("banner-text").textContent);
}

async function refreshLimits(again = true) {
  if (!settings || signIn.missing) return;
  const asked = profile.name;
  const key = currentKey();
  try {
    const limits = await fetchLimits(settings.chat_path, asked);
    // The profile or the user changed during the request.
    if (asked !== profile.name || key !== currentKey()) return;
    profile.offer(limits);
    meter.show(limits);
    // The last bytes of an answer can arrive before it is settled: check once more.
    if (again && !running && meter.unsettled) window.setTimeout(refreshLimits, 1500, false);
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error;
    if (key !== currentKey()) return;
    meter.hide();
    if (settings.keys && error.problem.status === 401) turnedAway();
    if (error.problem.code === "forbidden_profile" && profile.forget()) await refreshLimits(again);
  }
}

// ---------------------------------------------------------------- events

element("new-chat").addEventListener("click", newChat);
element("banner-retry").addEventListener("click", () => {
  composer.focus();
  connect();
});
element("empty").addEventListener("click", (/** @type {Event} */ { target }) => {
  const example = /** @type {HTMLElement} */ (target).closest(".example");
  if (!example) return;
  composer.focus();
  if (running || !settings || signIn.missing) composer.text = example.textContent ?? "";
  else send(example.textContent ?? "");
});
document.addEventListener("announce", (event) => announce(/** @type {CustomEvent} */ (event).detail));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !running || event.isComposing) return;
  event.preventDefault();
  stop();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) conversation.save();
  else refreshLimits();
});
window.addEventListener("pagehide", () => conversation.save());
window.addEventListener("online", () => settings || connect());

conversation.turns.forEach(show);
draw();
if (conversation.turns.length > 0) scroller.toEnd();
connect();
