/**
 * Makes the page and the wall live. Without this script the form still posts, and the list is as
 * old as the page. All words are in the page (data attributes), so that one catalogue translates
 * them; what visitors wrote only ever becomes text nodes and the href of a link.
 *
 * @typedef {{id: string, author: string|null, text: string, posted_at: string, pod: string}} Message
 * @typedef {{name: string, version: string, started_at: string, streams: number, state: string, lab?: string[]}} Pod
 * @typedef {{key: string, text: string, author: string, at: number, refused?: {field: string, reason: string}}} Draft
 * @typedef {{name: string, data: any, id?: string, after?: string}} Item what a stream brings
 */

const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const main = document.querySelector("main");
const form = main.querySelector("form"); // neither the wall nor an older page has one

/** Grows with every failure; the jitter keeps many pages from coming back at the same moment. */
const backOff = (failures) => Math.min(10_000, 250 * 2 ** failures) * (0.5 + Math.random() / 2);

/** crypto.randomUUID is missing on plain http, where pages on a local network are often served. */
const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");

/** What the server says to a GET, or nothing where it says nothing of use. */
async function getJson(url) {
  try {
    const response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(10_000) });
    if (response.ok) return await response.json();
  } catch {} // the caller comes back
}

/** Where storage is forbidden, what is kept lasts as long as the page. */
function openStorage(name) {
  try {
    window[name]["guestbook.probe"] = "";
    delete window[name]["guestbook.probe"];
    return window[name];
  } catch {
    return {};
  }
}

const kept = openStorage("localStorage"); // by this browser
const keptByTab = openStorage("sessionStorage");

// ---- Words, numbers, times: in the page's language, as the reader's region writes them

const locale = navigator.languages.find((tag) => tag.split("-")[0] === root.lang) ?? root.lang;
const numbers = new Intl.NumberFormat(locale, { maximumFractionDigits: 1, useGrouping: "min2" });
const plurals = new Intl.PluralRules(locale);
const ago = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "short" });
const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
const exact = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });

/** "{n} of {max}", filled in. */
const fill = (words, parts) =>
  words.replace(/\{(\w+)\}/g, (_, name) => (typeof parts[name] === "number" ? numbers.format(parts[name]) : parts[name]));

/** The words of an element for one (data-one) or many (data-other). */
const counted = ({ dataset }, n) => fill(dataset[plurals.select(n)] ?? dataset.other, { n });

/** @returns {[number, Intl.RelativeTimeFormatUnit]} */
function inWholeUnits(seconds) {
  if (seconds < 60) return [Math.floor(seconds), "second"];
  if (seconds < 3600) return [Math.floor(seconds / 60), "minute"];
  if (seconds < 86_400) return [Math.floor(seconds / 3600), "hour"];
  return [Math.floor(seconds / 86_400), "day"];
}

/** The visitor's clock may be slow. */
const secondsSince = (date) => Math.max(0, (Date.now() - date) / 1000);

function tellTime(time) {
  const date = new Date(time.dateTime);
  const [n, unit] = inWholeUnits(secondsSince(date));
  if (unit === "day") time.textContent = day.format(date);
  else time.textContent = unit === "second" ? ago.format(0, unit) : ago.format(-n, unit);
  time.title ||= exact.format(date);
}

function ageOf(date) {
  const [n, unit] = inWholeUnits(secondsSince(date));
  return new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "short" }).format(n);
}

// ---- Texts and colours: the server does the same (links.py, pods.py)

const ADDRESS = /https?:\/\/[^\s\x00-\x1f\x7f-\x9f<>"`]+/g;
const OPENING = { ")": "(", "]": "[", "}": "{" };

/** Leaves out what ends a sentence, and brackets that were opened before the address. */
function trimAddress(address) {
  const count = (character) => address.split(character).length;
  for (let last; (last = address.at(-1)); address = address.slice(0, -1)) {
    const isSurplus = last in OPENING && count(last) > count(OPENING[last]);
    if (!isSurplus && !".,;:!?'".includes(last)) break;
  }
  return address;
}

function link(address) {
  const anchor = document.createElement("a");
  anchor.setAttribute("href", address);
  anchor.setAttribute("rel", "nofollow ugc noopener");
  anchor.textContent = address;
  return anchor;
}

function write(element, text) {
  const parts = [];
  let position = 0;
  for (const { 0: candidate, index } of text.matchAll(ADDRESS)) {
    const address = trimAddress(candidate);
    if (!/\/\/.*[^/]/.test(address)) continue;
    parts.push(text.slice(position, index), link(address));
    position = index + address.length;
  }
  element.replaceChildren(...parts, text.slice(position));
}

/** A pod's colour: FNV-1a of its name. */
function hueOf(name) {
  let hash = 2166136261;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 16777619);
  return (hash >>> 0) % 24;
}

/** What the server makes of a text: LF, no other control characters, trimmed as Python does. */
const normalise = (text) =>
  text
    .replace(/\r\n?/g, "\n")
    .replace(/(?!\n)\p{Cc}/gu, "")
    .replace(/^[^\S\ufeff]+|[^\S\ufeff]+$/g, "");

// ---- The list: newest first, each id once

const MOST_SHOWN = main.dataset.view === "wall" ? 40 : 1000; // a page may stay open for weeks
const list = $("messages");
const blank = $("message").content.firstElementChild;
const isArchive = main.dataset.archive !== undefined; // an older page, which stays as it is
const deleted = new Set(); // an answer or a list on its way may still bring back what is gone

/** Ids are "milliseconds-number". As texts, "9-0" would be newer than "10-0". */
function isNewer(one, other) {
  const [ms, number] = one.split("-").map(BigInt);
  const [otherMs, otherNumber] = other.split("-").map(BigInt);
  return ms === otherMs ? number > otherNumber : ms > otherMs;
}

/** @param {Message} message */
function fillEntry(item, message) {
  const part = (selector) => item.querySelector(selector);
  item.dataset.id = item.id = message.id;
  write(part(".text"), message.text);
  if (message.author) part(".author").textContent = message.author;
  part("time").dateTime = message.posted_at;
  tellTime(part("time"));
  part(".pod").textContent = message.pod;
  part(".pod").dataset.hue = hueOf(message.pod);
  return item;
}

/** Puts an entry where its id belongs: below what is on its way, and not beyond a gap. */
function place(item) {
  let next = list.firstElementChild;
  while (next && (!next.dataset.id || isNewer(next.dataset.id, item.dataset.id))) next = next.nextElementSibling;
  if (!next && older?.hidden === false && list.querySelector("[data-id]")) return;
  keepingPlace(() => list.insertBefore(item, next));
  trim();
}

/** Only at the end that nobody is reading. */
function trim() {
  if (isBelow || list.childElementCount <= MOST_SHOWN) return;
  while (list.childElementCount > MOST_SHOWN) list.lastElementChild.remove();
  tellOlder(true);
}

/** @param {Message} message */
function show(message) {
  if (isArchive || deleted.has(message.id) || $(message.id)) return;
  const item = fillEntry(blank.cloneNode(true), message);
  item.classList.add("arriving");
  place(item);
}

function remove(id) {
  deleted.add(id);
  held.delete(id);
  $(id)?.remove();
}

/**
 * Makes the list agree with the newest page of it. What stays keeps its element, so that nothing
 * flickers; older entries stay if the page reaches down to them, else some between are unknown.
 * @param {{messages: Message[], next: string|null}} listing
 */
function agree({ messages, next }) {
  if (isArchive) return;
  const ids = new Set(messages.map(({ id }) => id));
  const oldest = messages.at(-1)?.id;
  const entries = [...list.querySelectorAll("[data-id]")];
  const reachesDown = next && entries.some(({ id }) => ids.has(id));
  for (const item of entries) {
    const isOlder = reachesDown && isNewer(oldest, item.id);
    if (!ids.has(item.id) && !isOlder) item.remove();
  }
  for (const message of messages.toReversed()) (cursor ? arrive : show)(message);
  if (!reachesDown) tellOlder(next);
}

// ---- What is new: nobody's place moves, and nobody is flooded

const title = document.title;
const pill = $("unseen");
const ANCHORS = CSS.supports("overflow-anchor", "auto"); // else the page would jump (Safari)

let isBelow = false; // the top of the list is above the window
let unseen = 0; // arrived above it
let unread = 0; // arrived while nobody looked
let unsaid = [];
let saidAt = 0;
let saying;

function keepingPlace(change) {
  if (ANCHORS || !isBelow) return change();
  const before = root.scrollHeight;
  change();
  scrollBy({ top: root.scrollHeight - before, behavior: "instant" });
}

/** Something that somebody wrote. @param {Message} message */
function arrive(message) {
  if (deleted.has(message.id) || $(message.id)) return;
  if (isOnItsWay(message)) return held.set(message.id, message);
  show(message);
  if (document.hidden) unread += 1;
  if (isBelow || isArchive) unseen += 1;
  tellNew();
  unsaid.push(message);
  saying ??= setTimeout(say, Math.max(800, saidAt + 6_000 - Date.now()));
}

function tellNew() {
  document.title = unread ? `(${numbers.format(unread)}) ${title}` : title;
  if (!pill) return;
  pill.hidden = !unseen;
  if (unseen) pill.textContent = counted(pill, unseen);
}

/** To screen readers: one message as it is, more as a number, and seldom. */
function say() {
  const [message] = unsaid;
  const { dataset } = $("news");
  $("news").textContent =
    unsaid.length === 1 ? fill(dataset.one, { author: message.author ?? dataset.anonymous, text: message.text }) : counted($("news"), unsaid.length);
  unsaid = [];
  saidAt = Date.now();
  saying = undefined;
}

function look() {
  isBelow = list.getBoundingClientRect().top < 0;
  if (isBelow || isArchive || !unseen) return;
  unseen = 0;
  tellNew();
}

function goToTop() {
  if (isArchive) return location.assign("/");
  $("messages-title").focus({ preventScroll: true }); // the pill, which has the focus, goes
  list.parentElement.scrollIntoView();
}

// ---- Older messages

const older = $("older");
const nearEnd = new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && loadOlder(), { rootMargin: "600px" });

function tellOlder(areThere) {
  if (!older) return;
  const last = list.lastElementChild?.dataset.id;
  older.hidden = !areThere || !last;
  if (last) older.href = `/?before=${last}`;
}

/** @returns whether they came. Observed anew each time: the link may be in view still. */
async function loadOlder() {
  nearEnd.unobserve(older);
  const last = list.lastElementChild?.dataset.id;
  if (older.hidden || !last) return true;
  const listing = await getJson(`/messages?limit=50&before=${last}`);
  if (listing && last === list.lastElementChild?.dataset.id) {
    for (const message of listing.messages) {
      if (!deleted.has(message.id) && !$(message.id)) list.append(fillEntry(blank.cloneNode(true), message));
    }
    tellOlder(listing.next);
  }
  setTimeout(() => nearEnd.observe(older), listing ? 0 : 10_000);
  return Boolean(listing);
}

// ---- The cursor: every event once and in order, whether a stream, a poll or another tab brings it

const RECENT = 500;
const recent = []; // for a tab that comes later or missed something
let cursor = main.dataset.cursor;
let lastPods;

function moveTo(id) {
  cursor = main.dataset.cursor = id;
}

const events = {
  message: arrive,
  deleted: ({ id }) => remove(id),
  pods: tellPods,
  moved: tellMoved,
  state: tellState,
  ping() {},
};

/** @param {Item} item */
function take(item) {
  if (item.id) {
    if (cursor && !isNewer(item.id, cursor)) return;
    moveTo(item.id);
    recent.push(item);
    if (recent.length > RECENT) recent.shift();
  }
  if (item.name === "pods") lastPods = item;
  events[item.name]?.(item.data);
}

/** Takes it, and gives it to the other tabs. */
function share(name, data, id) {
  const item = { name, data, id, after: cursor };
  tell({ item });
  take(item);
}

/**
 * Takes the list anew and goes on from its newest message: whichever pod gave the list, what comes
 * after it follows. The cursor moves only once the list is there.
 * @returns {Promise<"moved"|"same"|undefined>} what became of the cursor; nothing without a list
 */
async function renew(fallback = cursor) {
  const listing = await getJson("/messages?limit=50");
  if (!listing) return;
  const newest = listing.messages[0]?.id ?? (fallback || "0-0");
  const outcome = newest === cursor ? "same" : "moved";
  agree(listing);
  recent.length = 0;
  moveTo(newest);
  return outcome;
}

// ---- The stream
// An EventSource gives up on some failures and comes back at its own pace from others. Here every
// failure ends it, and a new one is made from our cursor: one way back, whatever went wrong.

const SILENCE = 40_000; // two pings and a half
const PATIENCE = 12_000; // a stream that works says something at once
const SETTLED = 5_000; // a stream that lives this long was no failure
const BLOCKED = 5; // so many failures in a row, while plain requests may work

let source;
let timer;
let due = 0; // when the timer should fire: in a hidden tab it may be a minute late
let heard = Date.now(); // when the stream, or the tab that has it, last said something
let lively; // since when this stream says something
let failures = 0;
let renewing = false;
let gone; // what was lost with the last stream: {pod, at}

// Either way: a clock that was set back must not keep the watchdog asleep.
const silentFor = (ms) => Math.abs(Date.now() - heard) > ms;

const stateNow = () => {
  if (lively) return isRedisAway ? "away" : "live";
  if (!navigator.onLine) return "offline";
  return polls ? "polling" : "reconnecting";
};

/** Said once, not at every attempt. */
function tellState(state) {
  if (root.dataset.state === state) return;
  root.dataset.state = state;
  $("state").textContent = $("state").dataset[state];
  if (state === "live") sendSoon();
}

function connect() {
  clearTimeout(timer);
  source?.close();
  heard = Date.now();
  lively = undefined;
  const stream = (source = new EventSource(cursor ? `/events?after=${encodeURIComponent(cursor)}` : "/events"));
  stream.onerror = lose;
  stream.addEventListener("bye", () => {
    leave();
    pause(100 + Math.random() * 500);
  });
  stream.addEventListener("reset", (event) => {
    stream.close();
    lively = gone = undefined;
    share("state", stateNow());
    renewStream(event.lastEventId);
  });
  for (const name of ["message", "deleted", "pods", "ping"]) {
    stream.addEventListener(name, (event) => {
      const data = JSON.parse(event.data);
      hear();
      // Other events bear the id of the last one that had its own.
      const id = name === "message" || name === "deleted" ? event.lastEventId : undefined;
      if (cursor || !id) share(name, data, id);
      if (name === "pods") arriveOn(data.pod);
      // Without a cursor the page was made before its pod could read the messages: they are still to come.
      if (!cursor) renewStream(event.lastEventId);
    });
  }
}

function hear() {
  heard = Date.now();
  if (lively) return;
  lively = heard;
  const wasPolling = polls;
  stopPolling();
  share("state", stateNow());
  if (wasPolling) renewStream(); // a poll does not bring what was deleted
}

/** From the same cursor a stream's answer would be the same: not at once. */
async function renewStream(fallback) {
  const isEnded = source.readyState === EventSource.CLOSED;
  if (renewing && !isEnded) return;
  const stream = source;
  renewing = true;
  const outcome = await renew(fallback);
  renewing = false;
  if (!isLeading || source !== stream) return;
  if (outcome) tell({ renew: true });
  if (outcome === "moved") connect();
  else if (isEnded) lose();
}

function leave() {
  gone ??= { pod: main.dataset.pod, at: silentFor(SILENCE) ? heard : Date.now() };
}

function lose() {
  if (!isLeading) return;
  if (lively) leave();
  failures = lively && Date.now() - lively > SETTLED ? 0 : failures + 1;
  if (failures >= BLOCKED) startPolling();
  pause(polls ? 30_000 * (1 + Math.random()) : backOff(failures));
}

function pause(ms) {
  clearTimeout(timer);
  source.close();
  lively = undefined;
  share("state", stateNow());
  due = Date.now() + ms;
  timer = setTimeout(connect, ms);
}

/** The first thing that a stream tells is which pod is at its other end. */
function arriveOn(pod) {
  if (!gone) return;
  const { pod: from, at } = gone;
  const seconds = (Date.now() - at) / 1000;
  // A reset would follow at once.
  setTimeout(() => {
    if (gone) share("moved", { from, to: pod, seconds });
    gone = undefined;
  }, 200);
}

/** After sleep or a lost network timers are late; whoever looks at the page should not wait for them. */
function wake() {
  if (!document.hidden) {
    unread = 0;
    tellNew();
    tellTimes();
  }
  if (!isLeading) return silentFor(SILENCE / 2) && tell({ wake: true });
  if (source.readyState === EventSource.CLOSED || silentFor(SILENCE / 2)) connect();
}

function watch() {
  if (!isLeading) return watchLeader();
  if (source.readyState === EventSource.CLOSED) return Date.now() >= due && !renewing && connect();
  if (!lively && silentFor(PATIENCE)) {
    failures += BLOCKED; // opened, and mute: something holds it back
    lose();
  } else if (silentFor(SILENCE)) lose();
}

// ---- Polling, where something on the way blocks streams; they are tried again from time to time

const POLL = 3_000;
let polls = 0; // how often it worked, while it goes on
let polling;

function startPolling() {
  polling ??= setTimeout(poll);
}

function stopPolling() {
  clearTimeout(polling);
  polling = undefined;
  polls = 0;
}

async function poll() {
  const isToRenew = polls % 10 === 9 || !cursor;
  const listing = isToRenew ? undefined : await getJson(`/messages?limit=500&after=${cursor}`);
  const works = isToRenew ? await renew() : listing;
  if (!isLeading || lively) return stopPolling();
  polls = works ? polls + 1 : 0;
  if (polls === 1 && source.readyState === EventSource.CLOSED) connect(); // it answers again: streams may, too
  if (isToRenew && works) tell({ renew: true });
  for (const message of listing?.messages ?? []) share("message", message, message.id);
  share("state", stateNow());
  if (works) polling = setTimeout(poll, listing?.next ? 0 : POLL * (0.75 + Math.random() / 2));
  else polling = undefined; // no way at all: the stream's failures start it again
}

// ---- Tabs: one of a browser holds the stream and gives the others what it brings
// A browser opens six connections to a host over HTTP/1.1: seven tabs would block each other.
// Locks are missing on plain http; then each tab has its own stream.

const tabs = new BroadcastChannel("guestbook");
let isLeading = false;
let resign = () => {};
let application; // for the lock

const tell = (said) => tabs.postMessage(said);
const hello = () => tell({ hello: cursor });

function lead() {
  isLeading = main.dataset.leader = true;
  tell({ led: true });
  connect();
  return new Promise((resolve) => (resign = resolve));
}

function follow() {
  isLeading = false;
  delete main.dataset.leader;
  clearTimeout(timer);
  stopPolling();
  source?.close();
  lively = undefined;
}

function apply({ steal = false } = {}) {
  if (!navigator.locks) return lead();
  application?.abort(); // what was asked for before would be granted as well, later
  const mine = (application = new AbortController());
  const how = steal ? { steal } : { signal: mine.signal };
  navigator.locks.request("guestbook.stream", how, lead).catch(() => {
    if (mine !== application) return;
    follow(); // another tab took this one for dead
    apply();
  });
  hello();
}

/** The leader may be frozen: then it says nothing even when asked. */
function watchLeader() {
  if (silentFor(SILENCE + 20_000)) {
    heard = Date.now();
    apply({ steal: true });
  } else if (silentFor(SILENCE) || (!document.hidden && root.dataset.state !== "live")) tell({ watch: true });
}

function answerHello(after) {
  const start = recent[0]?.after ?? cursor;
  const isKnown = after && start && !isNewer(start, after);
  const items = isKnown ? recent.filter(({ id }) => isNewer(id, after)) : undefined;
  tell({ catchUp: { after, items, pods: lastPods, state: stateNow(), deleted: [...deleted] } });
}

async function catchUp({ after, items, pods, state, deleted }) {
  for (const id of deleted) remove(id);
  if (pods) take(pods);
  tellState(state);
  if (items) for (const item of items) receive(item);
  else if (after === cursor) await renewFromTab();
}

async function renewFromTab() {
  if (renewing) return;
  renewing = true;
  await renew();
  renewing = false;
}

/** @param {Item} item */
function receive(item) {
  const isMissing = item.id && (!cursor || isNewer(item.after || "0-0", cursor));
  if (isMissing) hello();
  else take(item);
}

tabs.onmessage = ({ data: said }) => {
  if (said.settled) settle(said.settled);
  else if (said.waiting) waitFor(said.waiting, false);
  else if (said.sending) tellWay(said.sending, "sending");
  else if (isLeading) {
    if (said.hello !== undefined) answerHello(said.hello);
    else if (said.wake) wake();
    else if (said.watch) watch();
    if (said.wake || said.watch) share("ping");
  } else {
    if (said.item || said.catchUp) heard = Date.now();
    if (said.item) receive(said.item);
    else if (said.catchUp) catchUp(said.catchUp);
    else if (said.led) hello();
    else if (said.renew) renewFromTab();
  }
};

// ---- The pods: who is there, who serves this visitor, what happened

const HAPPENINGS = 4;
const panel = $("pods");
const podList = panel.querySelector("ul");
const podBlank = $("pod-item").content.firstElementChild;
const happenings = $("happenings");
const keyOf = ({ name, started_at }) => `${name} ${started_at}`; // a restarted one may be told beside its forerunner
let knownPods; // by that key
let isRedisAway = false;

function happen(what, parts = {}) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = clock.format();
  item.append(time, " ", fill(happenings.dataset[what] ?? what, parts));
  happenings.prepend(item);
  if (happenings.childElementCount > HAPPENINGS) happenings.lastElementChild.remove();
}

/** `pod` is the one at the other end of this stream. @param {{pods: Pod[], streams: number, pod: string, redis?: string}} said */
function tellPods({ pods, streams, pod: serving, redis }) {
  const { watching } = $("watching").dataset;
  $("watching").textContent = `${fill(watching, { n: streams })}, ${counted($("watching"), pods.length)}`;
  if (serving) main.dataset.pod = serving;
  if ($("pod")) {
    $("pod").textContent = main.dataset.pod;
    $("pod").dataset.hue = hueOf(main.dataset.pod);
  }
  if (isRedisAway !== (redis === "away")) {
    isRedisAway = !isRedisAway;
    happen(isRedisAway ? "redisAway" : "redisBack");
  }
  if (isLeading && lively) share("state", stateNow());
  tellChanges(pods);
  knownPods = new Map(pods.map((pod) => [keyOf(pod), pod]));
  for (const item of [...podList.children]) if (!knownPods.has(item.dataset.key)) item.remove();
  pods.forEach(tellPod);
}

function tellChanges(pods) {
  if (!knownPods) return;
  const names = new Set(pods.map(({ name }) => name));
  const namesBefore = new Set();
  for (const { name } of knownPods.values()) {
    namesBefore.add(name);
    if (!names.has(name)) happen("gone", { pod: name });
  }
  for (const pod of pods) {
    const { name, version, state } = pod;
    const before = knownPods.get(keyOf(pod));
    if (!before) happen(namesBefore.has(name) ? "restarted" : "come", { pod: name, version });
    else if (before.state !== state && state === "draining") happen("draining", { pod: name });
  }
}

const findPod = (pod) => [...podList.children].find(({ dataset }) => dataset.key === keyOf(pod));

/** Elements stay, so that the focus and an open menu do. @param {Pod} pod */
function tellPod(pod, position) {
  let item = findPod(pod);
  if (!item) {
    item = podBlank.cloneNode(true);
    item.dataset.key = keyOf(pod);
    item.dataset.pod = item.querySelector(".name").textContent = pod.name;
    item.dataset.hue = hueOf(pod.name);
    item.querySelector(".lab summary")?.setAttribute("aria-label", fill(podList.dataset.menu, { pod: pod.name }));
  }
  if (podList.children[position] !== item) podList.insertBefore(item, podList.children[position] ?? null);
  item.dataset.state = pod.state;
  item.querySelector(".facts").textContent = factsOf(pod);
  item.querySelector(".here").hidden = pod.name !== main.dataset.pod;
  item.querySelector(".condition").textContent = [pod.state, ...(pod.lab ?? [])]
    .filter((state) => state !== "ready")
    .map((state) => podList.dataset[state.replace(/-(.)/g, (_, letter) => letter.toUpperCase())] ?? state)
    .join(", ");
}

const factsOf = ({ version, started_at, streams }) =>
  [`v${version}`, ageOf(new Date(started_at)), fill($("watching").dataset.watching, { n: streams })].join(" · ");

function tellAges() {
  for (const pod of knownPods?.values() ?? []) findPod(pod).querySelector(".facts").textContent = factsOf(pod);
}

function tellMoved({ from, to, seconds }) {
  happen(from === to ? "back" : "moved", { from, to, seconds });
}

/** Open where there is room for it, unless the visitor chose. On the wall it is always open. */
function openPanel() {
  if (!panel.matches("details")) return;
  const choice = kept["guestbook.pods"];
  panel.open = choice ? choice === "open" : matchMedia("(min-width: 56rem)").matches || "lab" in main.dataset;
  panel.querySelector("summary").addEventListener("click", () => (kept["guestbook.pods"] = panel.open ? "closed" : "open"));
}

// ---- The lab: faults on purpose

function labClicked({ target }) {
  const { action } = target.dataset;
  if (!action) return;
  const menu = target.closest("details");
  menu.open = false;
  menu.querySelector("summary").focus();
  actOn(target.closest("[data-pod]").dataset.pod, action, target.textContent);
}

async function actOn(pod, action, words) {
  const token = keptByTab["guestbook.token"];
  const headers = { Accept: "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  try {
    const response = await fetch(`/lab/${encodeURIComponent(pod)}/${action}`, { method: "POST", headers });
    if (response.ok) return happen("asked", { pod, action: words.trim() });
    if (response.status !== 401) return happen((await response.json()).detail);
    if (await askForToken()) actOn(pod, action, words);
  } catch {
    happen("unreachable");
  }
}

/** Whether there is one now. */
function askForToken() {
  const dialog = $("token");
  delete keptByTab["guestbook.token"];
  $("token-value").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      const value = $("token-value").value.trim();
      if (dialog.returnValue !== "ok" || !value) return resolve(false);
      keptByTab["guestbook.token"] = value;
      resolve(true);
    };
  });
}

// ---- The outbox: what a visitor sent is kept in this browser until the guestbook has it
// Every tab shows it; one at a time sends, in order. Where locks are missing two tabs may send the
// same: its key makes one message of it.

const OUTBOX = "guestbook.outbox.";
const KEY_LIVES = 23 * 3600 * 1000; // the server forgets a key after 24 hours: then the visitor decides
const LATER = [408, 429]; // these, a failed network and every 5xx: the same message, again, later

const settled = new Set(); // keys of drafts that are messages now
const held = new Map(); // messages that may be ours: told from others' by the answer to our post
let drafts = [];
let notBefore = 0; // of performance.now(), as is
let rateLimit = 0;
let attempts = 0;
let retry;
let queue = Promise.resolve();
let isQueued = false;
let newestDraft = 0;

const nameOf = ({ at, key }) => `${OUTBOX}${at}-${key}`;

/** Writes of a tab are in order, and no tab writes what another did: each draft is an item. */
function keep(draft) {
  kept[nameOf(draft)] = JSON.stringify(draft);
}

/** @returns {Draft[]} oldest first */
function readOutbox() {
  return Object.keys(kept)
    .filter((name) => name.startsWith(OUTBOX))
    .sort()
    .flatMap((name) => {
      try {
        return [JSON.parse(kept[name])];
      } catch {
        return []; // not ours
      }
    });
}

const isOnItsWay = ({ text, author }) => drafts.some((draft) => draft.text === text && (draft.author || null) === author);
const findDraft = (key) => list.querySelector(`.pending[data-key="${CSS.escape(key)}"]`);

/** Where there is no form, nothing can be on its way. */
function showOutbox() {
  if (!form) return;
  drafts = readOutbox().filter(({ key }) => !settled.has(key));
  const keys = new Set(drafts.map(({ key }) => key));
  for (const item of list.querySelectorAll(".pending")) if (!keys.has(item.dataset.key)) item.remove();
  for (const draft of drafts) {
    if (!findDraft(draft.key)) list.prepend(pendingEntry(draft));
    if (draft.refused) tellWay(draft.key, "refused", draft.refused.reason);
  }
  for (const [id, message] of held) if (!isOnItsWay(message)) held.delete(id) && arrive(message);
  if (!drafts.length && isSending()) tellForm("idle");
}

const isSending = () => ["sending", "waiting"].includes(form?.dataset.state);

/** @param {Draft} draft */
function pendingEntry({ key, text, author, at }) {
  const item = fillEntry(blank.cloneNode(true), { id: "", text, author, posted_at: new Date(at).toISOString(), pod: "" });
  item.removeAttribute("id");
  delete item.dataset.id;
  item.classList.add("pending");
  item.dataset.key = key;
  item.append($("way").content.cloneNode(true));
  return item;
}

function tellWay(key, state, reason) {
  const item = findDraft(key);
  if (!item) return;
  item.dataset.state = state;
  const why = item.querySelector(".why");
  why.textContent = reason ?? why.dataset[state];
}

/** With its answer, a draft becomes the message that it is; in every tab. @param {{key: string, message: Message}} answer */
function settle({ key, message }) {
  const item = findDraft(key);
  const wasSending = isSending();
  settled.add(key);
  item?.remove();
  if (item || held.delete(message.id)) show(message);
  if (item) $(message.id)?.classList.remove("arriving");
  showOutbox();
  if (item && !drafts.length && wasSending) tellForm("sent", $("note").dataset.sent);
}

const nextDraft = () => readOutbox().find(({ key, refused }) => !refused && !settled.has(key));

/** Whatever stood in the way seems to be gone; the posting rate is no such thing. */
function sendSoon() {
  notBefore = Math.min(notBefore, rateLimit);
  sendOutbox();
}

function sendOutbox() {
  clearTimeout(retry);
  if (!form || isQueued || !nextDraft()) return;
  isQueued = true;
  queue = exclusively(sendAll).then(() => {
    if (nextDraft()) retry = setTimeout(sendOutbox, Math.max(0, notBefore - performance.now()));
  });
}

const exclusively = (act) => (navigator.locks ? navigator.locks.request("guestbook.outbox", act) : queue.then(act));

async function sendAll() {
  isQueued = false;
  for (let draft; performance.now() >= notBefore && (draft = nextDraft()); ) await send(draft);
}

/** @param {Draft} draft */
async function send(draft) {
  if (Date.now() - draft.at > KEY_LIVES) return refuse(draft, { status: "stale" });
  tellWay(draft.key, "sending");
  tell({ sending: draft.key });
  const { message, problem, why, seconds } = await post(draft);
  if (message) {
    attempts = 0;
    settle({ key: draft.key, message });
    tell({ settled: { key: draft.key, message } });
    delete kept[nameOf(draft)];
  } else if (problem) refuse(draft, problem);
  else {
    attempts += 1;
    const ms = seconds > 0 ? seconds * 1000 + Math.random() * 500 : backOff(attempts);
    waitFor({ why, ms }, true);
    tell({ waiting: { why, ms } });
  }
}

/** It is stored; or it never will be; or nobody knows, and it may be tried again. */
async function post({ key, text, author }) {
  try {
    const response = await fetch(form.action, {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json", "Idempotency-Key": key },
      body: JSON.stringify({ text, author: author || undefined }),
      signal: AbortSignal.timeout(15_000),
    });
    const answer = await response.json().catch(() => ({})); // a proxy answers in HTML
    if (response.ok && answer.id) return { message: answer };
    if (response.status >= 400 && response.status < 500 && !LATER.includes(response.status)) return { problem: { status: response.status, ...answer } };
    return { why: response.status === 429 ? "often" : "busy", seconds: Number(response.headers.get("Retry-After")) };
  } catch {
    return { why: "unreachable" };
  }
}

/** A tab that did not send itself is there in case the one that did is closed. */
function waitFor({ why, ms }, isSender) {
  drafts.forEach(({ key, refused }) => refused || tellWay(key, "waiting"));
  if (drafts.length) tellForm("waiting", $("note").dataset[why], $("note").dataset.waiting);
  notBefore = performance.now() + ms;
  if (why === "often") rateLimit = notBefore;
  if (isSender) return;
  clearTimeout(retry);
  retry = setTimeout(sendOutbox, 2 * ms + 10_000);
}

/**
 * Back into the form, if the visitor has not begun another text there.
 * @param {Draft} draft
 * @param {{status: number|"stale", detail?: string, errors?: {field: string, code: string, reason: string}[]}} problem
 */
function refuse(draft, { status, errors: [error = {}] = [] }) {
  const field = error.field in form.elements ? error.field : "form";
  draft.refused = { field, reason: reasonOf(field, error.code, status, draft) };
  if (!(nameOf(draft) in kept)) return; // taken back meanwhile
  keep(draft);
  showOutbox();
  tellForm("refused");
  if (!text.value && written.has(draft.key)) takeBack(draft.key);
}

function reasonOf(field, code, status, draft) {
  const { dataset } = $(`${field}-problem`);
  const words = dataset[code] ?? dataset[status] ?? $("form-problem").dataset[status] ?? $("form-problem").dataset.refused;
  return fill(words, { n: [...(draft[field] ?? "")].length, max: Number(form.elements[field]?.dataset.max) });
}

function takeBack(key) {
  const draft = drafts.find((other) => other.key === key);
  if (!draft) return;
  delete kept[nameOf(draft)];
  text.value = [draft.text, text.value].filter(Boolean).join("\n\n");
  author.value = draft.author;
  takenBack = draft;
  showOutbox();
  edited();
  const { field, reason } = draft.refused ?? {};
  clearProblems();
  if (field) tellProblem(field, reason);
  else tellForm("idle");
  (form.elements[field] ?? text).focus();
}

function discard(key) {
  const draft = drafts.find((other) => other.key === key);
  if (draft) delete kept[nameOf(draft)];
  showOutbox();
  if (!drafts.length) tellForm("idle");
  text.focus();
}

function wayClicked({ target }) {
  const { key } = target.closest(".pending")?.dataset ?? {};
  if (target.matches(".edit")) takeBack(key);
  else if (target.matches(".discard")) discard(key);
}

// ---- The form

const { text, author } = form?.elements ?? {};
const written = new Set(); // keys of what was written in this tab
const GROWS = CSS.supports("field-sizing", "content");
let takenBack; // a text that is sent again unchanged is the same message

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

/** Characters, as the server counts them. */
const lengthOf = (field) => [...normalise(field.value)].length;

/** The text has changed: its counter, and its height where the style sheet cannot see to that. */
function edited() {
  const room = text.dataset.max - lengthOf(text);
  const { left, over } = $("room").dataset;
  $("room").textContent = room < 0 ? fill(over, { n: -room }) : room < 100 ? fill(left, { n: room }) : "";
  if (GROWS) return;
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 4}px`;
}

/** What the server would refuse needs no journey; it says it in the same words. @returns {HTMLElement|undefined} the field at fault */
function findFault() {
  clearProblems();
  const faults = [
    [text, !lengthOf(text) && "empty"],
    [text, lengthOf(text) > text.dataset.max && "too_long"],
    [author, lengthOf(author) > author.dataset.max && "too_long"],
  ].filter(([, code]) => code);
  for (const [field, code] of faults) tellProblem(field.name, reasonOf(field.name, code, 422, { [field.name]: normalise(field.value) }));
  return faults[0]?.[0];
}

function submit() {
  const fault = findFault();
  if (fault) {
    tellForm("refused");
    return fault.focus();
  }
  const draft = { key: newKey(), text: normalise(text.value), author: normalise(author.value), at: (newestDraft = Math.max(Date.now(), newestDraft + 1)) };
  if (draft.text === takenBack?.text && draft.author === takenBack.author) draft.key = takenBack.key;
  try {
    kept["guestbook.author"] = author.value;
    keep(draft);
  } catch {
    return tellProblem("form", $("form-problem").dataset.refused); // the browser's storage is full
  }
  takenBack = undefined;
  written.add(draft.key);
  text.value = "";
  edited();
  showOutbox();
  const isFree = performance.now() >= notBefore;
  tellWay(draft.key, isFree ? "sending" : "waiting");
  if (isFree) tellForm("sending");
  sendOutbox();
}

function startForm() {
  form.noValidate = true; // the reasons appear at the field, in one style
  author.value ||= kept["guestbook.author"] ?? "";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing) form.requestSubmit();
  });
  form.addEventListener("input", ({ target }) => {
    tellProblem(target.name, "");
    edited();
    if (["sent", "refused"].includes(form.dataset.state)) tellForm("idle");
  });
  list.addEventListener("click", wayClicked);
  addEventListener("storage", ({ key }) => (key === null || key.startsWith(OUTBOX)) && showOutbox());
  showOutbox();
  edited();
  sendOutbox();
}

// ---- Start

const tellTimes = () => list.querySelectorAll("time").forEach(tellTime);

addEventListener("online", wake);
addEventListener("offline", lose);
document.addEventListener("visibilitychange", wake);
document.addEventListener("resume", wake);
// A page that waits behind the back button holds neither stream nor lock.
addEventListener("pagehide", () => {
  application?.abort();
  application = undefined;
  resign();
  follow();
});
addEventListener("pageshow", ({ persisted }) => persisted && apply());
addEventListener("scroll", look, { passive: true });
setInterval(watch, 5_000);
setInterval(() => document.hidden || tellTimes(), 30_000);
setInterval(() => document.hidden || tellAges(), 5_000);

pill?.addEventListener("click", goToTop);
podList.addEventListener("click", labClicked);
older?.addEventListener("click", async (event) => {
  event.preventDefault();
  if (!(await loadOlder())) location.assign(older.href);
});

apply();
openPanel();
look();
if (older) nearEnd.observe(older);
if (form) startForm();
setTimeout(tellTimes); // a turn of its own: on a slow telephone fifty dates take a while
