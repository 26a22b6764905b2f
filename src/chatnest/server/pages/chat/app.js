// The page: joins the composer, the conversation, the endpoint and what is shown of them.

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

/** @type {Settings | null} null until the server has told them */
let settings = null;
/** @type {AbortController | null} of the answer that is being written */
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

/** For those who listen: said once, politely; never the tokens of an answer. */
function announce(/** @type {string} */ text) {
  const status = element("status");
  status.textContent = "";
  requestAnimationFrame(() => (status.textContent = text)); // the same words again are said again
}

// ---------------------------------------------------------------- asking

function send(/** @type {string} */ question) {
  composer.text = "";
  // Half of a surrogate pair, left by a cut in an emoji, is not JSON that a server has to take.
  const turn = conversation.add(question.toWellFormed(), profile.name);
  show(turn);
  run(turn);
}

/** @param {Turn} turn */
function retry(turn) {
  if (running || !settings || signIn.missing) return;
  turn.profile = profile.name;
  run(turn);
  composer.focus(); // the button that was pressed is gone
}

/** @param {Turn} turn whose answer the page before a reload did not read to its end */
const goOn = (turn) => run(turn, turn.run);

/**
 * @param {Turn} turn
 * @param {string} known the run that goes on, or "" for a new one
 */
async function run(turn, known = "") {
  if (running || !settings) return;
  const controller = new AbortController();
  const before = turn.answer; // a retry that is refused does not cost what was there
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
      if (!turn.answer) refreshLimits(false); // now its worst case is held
      turn.answer += text;
      views.get(turn)?.grow();
    },
  };
  const outcome = known
    ? await resume(settings.chat_path, known, reading)
    : await ask(settings.chat_path, request, { ...reading, key: newId() });
  if (running !== controller) return; // a new chat has begun in the meantime
  running = null;
  composer.running = false;
  end(turn, outcome, before);
  // What was stopped is settled a moment after the server has seen that nobody reads any more.
  if (outcome.kind === "stopped") window.setTimeout(refreshLimits, 300);
  else refreshLimits();
}

/**
 * @param {Turn} turn
 * @param {import("./endpoint.js").Outcome} outcome
 * @param {string} before the answer of the attempt before, where there was one
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

/** Puts a question back where it can be changed. @param {Turn} turn */
function reuse(turn) {
  const typed = composer.text.trim();
  composer.text = typed ? `${turn.question}\n\n${typed}` : turn.question;
  if (turn.state === "refused") {
    conversation.remove(turn); // the model never saw it
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

/** Known to the server, or nobody need be. */
async function enter() {
  await refreshLimits();
  if (signIn.missing) return; // the key that was kept is not valid any more
  composer.ready = true;
  const left = conversation.last;
  if (left?.state === "running" && left.run) goOn(left);
}

/** @param {boolean} again whether the key is the one that was asked for again */
function signedIn(again) {
  if (!again) newChat(); // what stands here may be somebody else's
  composer.focus();
  enter();
}

/** Leaves nothing of this person's in the tab. */
function signOut() {
  newChat();
  composer.text = "";
  shutOut();
}

/** The key was valid once, or looked like one. */
function turnedAway() {
  shutOut();
  signIn.ask("Your key is not known here any more.");
}

function shutOut() {
  composer.ready = false;
  meter.hide();
}

// ---------------------------------------------------------------- showing

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
  element("model").title = settings.model; // it may be cut
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
    // Another profile was chosen while this was under way, or another person is here.
    if (asked !== profile.name || key !== currentKey()) return;
    profile.offer(limits);
    meter.show(limits);
    // An answer's last bytes can be here before its tokens are in the books: look once more.
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
