/**
 * Makes the page live. Without this script the form still posts, and the list is as old as the page.
 * All words are in the page (data attributes); what visitors wrote only ever becomes textContent.
 *
 * @typedef {{id: string, author: string|null, text: string, posted_at: string, pod: string}} Message
 */

const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const main = document.querySelector("main");

/** Grows with every failure; the jitter keeps many pages from coming back at the same moment. */
const backOff = (failures) => Math.min(10_000, 500 * 2 ** failures) * (0.5 + Math.random() / 2);

const fill = (words, n) => words.replace("{n}", n.toLocaleString());

// ---- The list: newest first, each id once

const MOST_SHOWN = 1000; // a page left open for weeks must not fill the memory
const list = $("messages");
const blank = $("message").content.firstElementChild;
const deleted = new Set(); // an answer or a list on its way may still bring back what is gone

const find = (id) => list.querySelector(`[data-id="${CSS.escape(id)}"]`);

/** Ids are "milliseconds-number". As texts, "9-0" would be newer than "10-0". */
function isNewer(one, other) {
  const [ms, number] = one.split("-").map(BigInt);
  const [otherMs, otherNumber] = other.split("-").map(BigInt);
  return ms === otherMs ? number > otherNumber : ms > otherMs;
}

/** @param {Message} message */
function show(message) {
  if (deleted.has(message.id) || find(message.id)) return;
  const item = blank.cloneNode(true);
  const part = (selector) => item.querySelector(selector);
  item.dataset.id = message.id;
  item.classList.add("arriving");
  part(".text").textContent = message.text;
  if (message.author) part(".author").textContent = message.author;
  part(".pod").textContent = message.pod;
  part("time").dateTime = message.posted_at;
  tellTime(part("time"));

  let next = list.firstElementChild;
  while (next && isNewer(next.dataset.id, message.id)) next = next.nextElementSibling;
  list.insertBefore(item, next);
  if (list.childElementCount > MOST_SHOWN) list.lastElementChild.remove();
}

function remove(id) {
  deleted.add(id);
  find(id)?.remove();
}

/** What stays keeps its element, so that nothing flickers. @param {Message[]} messages */
function replaceAll(messages) {
  const kept = new Set(messages.map((message) => message.id));
  for (const item of [...list.children]) if (!kept.has(item.dataset.id)) item.remove();
  messages.forEach(show);
}

// ---- Times

const DAY = 86_400;
const ago = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const { locale } = exact.resolvedOptions();

function tellTime(time) {
  const date = new Date(time.dateTime);
  const seconds = Math.max(0, (Date.now() - date) / 1000); // the visitor's clock may be slow
  if (seconds < 60) time.textContent = ago.format(0, "second");
  else if (seconds < 3600) time.textContent = ago.format(-Math.floor(seconds / 60), "minute");
  else if (seconds < DAY) time.textContent = ago.format(-Math.floor(seconds / 3600), "hour");
  else time.textContent = day.format(date);
  time.title = exact.format(date);
  time.lang = locale;
}

const tellTimes = () => list.querySelectorAll("time").forEach(tellTime);

// ---- The stream
// An EventSource gives up on some failures and comes back at its own pace from others. Here every
// failure ends it, and a new one is made from our cursor: one way back, whatever went wrong.

const SILENCE = 40_000; // two pings and a half
const SETTLED = 5_000; // a stream that lives this long was no failure

let cursor = main.dataset.cursor;
let source;
let timer;
let heard; // when the stream last said something
let opened;
let failures = 0;
let loading = false;

// Either way: a clock that was set back must not keep the watchdog asleep.
const silentFor = (ms) => Math.abs(Date.now() - heard) > ms;

function tellState(state) {
  if (root.dataset.state === state) return; // said once, not at every attempt
  root.dataset.state = state;
  $("state").textContent = $("state").dataset[state];
}

function moveTo(id) {
  cursor = main.dataset.cursor = id;
}

function connect() {
  clearTimeout(timer);
  source?.close();
  heard = Date.now();
  opened = NaN;
  source = new EventSource(cursor ? `/events?after=${encodeURIComponent(cursor)}` : "/events");
  source.onopen = () => {
    heard = opened = Date.now();
    tellState("live");
  };
  source.onerror = lose;
  source.addEventListener("bye", () => pause(100 + Math.random() * 500));
  source.addEventListener("reset", (event) => {
    source.close();
    tellState("reconnecting");
    load(event);
  });
  for (const [name, act] of Object.entries(events)) {
    source.addEventListener(name, (event) => {
      heard = Date.now();
      act(event.data && JSON.parse(event.data));
      // Without a cursor the page was made before its pod could read the messages: they are still to come.
      if (!cursor) load(event);
      else if (event.lastEventId) moveTo(event.lastEventId);
    });
  }
}

const events = {
  message: show,
  deleted: ({ id }) => remove(id),
  pods: tellPods,
  ping() {},
};

function pause(ms) {
  clearTimeout(timer);
  source.close();
  tellState(navigator.onLine ? "reconnecting" : "offline");
  timer = setTimeout(connect, ms);
}

function lose() {
  failures = Date.now() - opened > SETTLED ? 0 : failures + 1;
  opened = NaN;
  pause(backOff(failures));
}

/**
 * Takes the list anew and goes on from its newest message: whichever pod gave the list, the stream
 * then brings everything after it. The cursor moves only once the list is there.
 */
async function load(event) {
  const before = source;
  const closed = before.readyState === EventSource.CLOSED;
  if (loading && !closed) return;
  loading = true;
  const messages = await fetchNewest();
  loading = false;
  if (source !== before) return;
  if (messages) {
    replaceAll(messages);
    const newest = messages[0]?.id ?? (event.lastEventId || cursor || "0-0");
    if (newest !== cursor) {
      moveTo(newest);
      return connect();
    }
  }
  // From the same cursor the answer would be the same: not at once.
  if (closed) lose();
}

/** @returns {Promise<Message[]|undefined>} */
async function fetchNewest() {
  try {
    const response = await fetch("/messages?limit=50", { cache: "no-store", signal: AbortSignal.timeout(10_000) });
    if (response.ok) return (await response.json()).messages;
  } catch {} // the caller comes back
}

/** After sleep or a lost network timers are late; whoever looks at the page should not wait for them. */
function wake() {
  tellTimes();
  if (source.readyState === EventSource.CLOSED || silentFor(SILENCE / 2)) connect();
}

/** `pod` is the one at the other end of this stream, if the server names it. */
function tellPods({ pods, streams, pod }) {
  const { watching, one, other } = $("watching").dataset;
  const plural = new Intl.PluralRules(root.lang).select(pods.length) === "one" ? one : other;
  $("watching").textContent = `${fill(watching, streams)}, ${fill(plural, pods.length)}`;
  if (pod) $("pod").textContent = main.dataset.pod = pod;
}

// ---- The form

const LATER = [408, 429]; // these, a failed network and every 5xx: the same message, again, later
const form = document.forms[0];
const { text, author } = form.elements;

let attempt; // what is being sent: one body, one key, however often
let sending = false;
let sendAgain = false; // the visitor sent another text while one was on its way
let retry;

const read = () => JSON.stringify({ text: text.value, author: author.value.trim() || undefined });

/** crypto.randomUUID is missing on plain http, where pages on a local network are often served. */
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");

function tellForm(state, ...words) {
  form.dataset.state = state;
  $("note").textContent = words.join(" ");
}

function tellProblem(name, reason) {
  $(`${name}-problem`).textContent = reason;
  if (reason) form.elements[name]?.setAttribute("aria-invalid", "true");
  else form.elements[name]?.removeAttribute("aria-invalid");
}

const clearProblems = () => ["text", "author", "form"].forEach((name) => tellProblem(name, ""));

function tellRoom() {
  const room = text.dataset.max - [...text.value.trim()].length; // characters, as the server counts them
  const { left, over } = $("room").dataset;
  $("room").textContent = room < 0 ? fill(over, -room) : room < 100 ? fill(left, room) : "";
}

async function send() {
  const body = read();
  if (sending) {
    sendAgain = body !== attempt.body;
    return;
  }
  clearTimeout(retry);
  if (body !== attempt?.body) attempt = { body, text: text.value, key: newKey(), failures: 0 };
  clearProblems();
  if (!attempt.failures) tellForm("sending");
  sending = true;
  const { message, problem, later, seconds } = await post(attempt);
  sending = false;
  if (message) posted(message);
  else if (problem) refused(problem);
  else waitAndSend(later, seconds);
  if (sendAgain) {
    sendAgain = false;
    send();
  }
}

/** It is stored; or it never will be; or nobody knows, and it may be tried again. */
async function post({ body, key }) {
  try {
    const response = await fetch(form.action, {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json", "Idempotency-Key": key },
      body,
      signal: AbortSignal.timeout(15_000),
    });
    const answer = await response.json().catch(() => ({})); // a proxy answers in HTML
    if (response.ok && answer.id) return { message: answer };
    if (response.status >= 400 && response.status < 500 && !LATER.includes(response.status)) return { problem: answer };
    return { later: response.status === 429 ? "often" : "busy", seconds: Number(response.headers.get("Retry-After")) };
  } catch {
    return { later: "unreachable" };
  }
}

function posted(message) {
  show(message);
  if (text.value === attempt.text) text.value = "";
  attempt = undefined;
  remember(author.value);
  tellRoom();
  tellForm("sent", $("note").dataset.sent);
}

/** @param {{detail?: string, errors?: {field: string, reason: string}[]}} problem */
function refused({ detail, errors = [] }) {
  attempt = undefined;
  tellForm("refused");
  const named = errors.filter(({ field }) => field === "text" || field === "author");
  for (const { field, reason } of named) {
    const label = form.elements[field].labels[0].firstChild.textContent.trim();
    tellProblem(field, `${label} ${reason}.`); // as the server says it to a form without script
  }
  if (named.length) form.elements[named[0].field].focus();
  else tellProblem("form", detail || $("note").dataset.refused);
}

function waitAndSend(why, seconds) {
  attempt.failures += 1;
  if (read() !== attempt.body) return edited();
  tellForm("waiting", $("note").dataset[why], $("note").dataset.waiting);
  retry = setTimeout(send, seconds > 0 ? seconds * 1000 + Math.random() * 500 : backOff(attempt.failures));
}

/** Half a new text must not go out by itself. */
function edited() {
  clearTimeout(retry);
  tellForm("edited", $("note").dataset.edited);
}

function remember(name) {
  try {
    localStorage.setItem("guestbook.author", name);
  } catch {} // storage may be forbidden, and it is only a comfort
}

function recall() {
  try {
    return localStorage.getItem("guestbook.author") ?? "";
  } catch {
    return "";
  }
}

// ---- Start

form.noValidate = true; // the server's reasons appear at the field, in one style
author.value ||= recall();
form.addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) form.requestSubmit();
});
form.addEventListener("input", (event) => {
  tellProblem(event.target.name, "");
  tellRoom();
  if (form.dataset.state === "waiting") edited();
  else if (form.dataset.state === "sent") tellForm("idle");
});

addEventListener("online", wake);
addEventListener("pageshow", (event) => event.persisted && connect());
addEventListener("offline", lose);
document.addEventListener("visibilitychange", wake);
setInterval(() => source.readyState !== EventSource.CLOSED && silentFor(SILENCE) && lose(), 5_000);
setInterval(tellTimes, 30_000);

tellRoom();
tellTimes();
connect();
