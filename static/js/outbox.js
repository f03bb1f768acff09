import { bus, cloneTemplate, parse, part, storage, store } from "./browser.js";
import { explain } from "./form.js";
import { createEntry, list } from "./list.js";
import { backOff, isMessage, send } from "./requests.js";

const PREFIX = "guestbook.outbox.";
export const OWN = "guestbook.own."; // a message's id; the value is its key
const KEY_LIVES = 23 * 3600 * 1000; // the server forgets them after 24
const LATER = [408, 429];
/** Values for which the storage has no room. @type {Record<string, string>} */
const unkept = {};

/** Each draft is an item of its own, so that tabs do not overwrite each other's. @param {Draft} draft */
const nameOf = ({ at, key }) => `${PREFIX}${at}-${key}`;

/** @param {Draft} draft */
function keepDraft(draft) {
  const json = JSON.stringify(draft);
  dropDraft(draft);
  if (!store(storage, nameOf(draft), json)) unkept[nameOf(draft)] = json;
}

/** @param {Draft} draft */
function dropDraft(draft) {
  delete storage[nameOf(draft)];
  delete unkept[nameOf(draft)];
}

/** The oldest first. @returns {Draft[]} */
const readDrafts = () =>
  [...Object.keys(storage), ...Object.keys(unkept)]
    .filter((name) => name.startsWith(PREFIX))
    .sort()
    .map((name) => parse(storage[name] ?? unkept[name]))
    .filter((draft) => typeof draft?.text === "string" && typeof draft.key === "string");

/** Whether a draft is neither stored nor refused yet. @param {Draft} draft */
const isUnsent = ({ held, refused }) => !held && !refused;

/** Whether a draft waits for approval. @param {Draft} draft */
export const isHeld = ({ held, refused }) => Boolean(held && !refused);

/** @param {Draft} draft @param {Message} message */
export const isSame = (draft, { text, author }) => draft.text === text && (draft.author || null) === author;

/** Run in one tab after the other, if the browser has locks. @param {() => Promise<void>} act */
async function exclusively(act) {
  let isGranted = false;
  try {
    await navigator.locks.request("guestbook.outbox", () => {
      isGranted = true;
      return act();
    });
  } catch (error) {
    if (isGranted) throw error;
    await act();
  }
}

/** Keeps messages in the browser's storage until the guestbook has them. One tab sends, in order. */
export class Outbox {
  /** @type {Draft[]} */
  drafts = [];
  /** @type {Set<string>} */
  #settled = new Set();
  /** Messages that may be ours: the answer to our post will tell. @type {Map<string, Message>} */
  #keptBack = new Map();
  #notBefore = 0;
  #rateLimit = 0;
  #attempts = 0;
  #retry = 0;
  #isQueued = false;
  /** @type {AbortController | undefined} */
  #posting;
  #isBack = false; // the stream, since a post began
  #turn = Promise.resolve();

  constructor() {
    /** @type {State | undefined} */
    let before;
    bus.on("state", (state) => {
      if (state === "live" && before !== state) this.#sendSoon(before === "away");
      before = state;
    });
    bus.on("deleted", ({ id }) => this.#keptBack.delete(id));
    bus.on("settled", (settled) => this.#settle(settled));
    bus.on("sending", (key) => this.mark(key, "sending"));
    bus.on("waiting", (delay) => {
      this.#delay(delay);
      // In case the tab that sends is closed.
      clearTimeout(this.#retry);
      this.#retry = setTimeout(() => this.send(), 2 * delay.ms + 10_000);
    });
    addEventListener("storage", ({ key }) => (key === null || key.startsWith(PREFIX)) && this.show());
  }

  /** The note about unsent messages, by whether they would survive a reload. */
  get waiting() {
    return storage instanceof Storage && !Object.keys(unkept).length ? "waiting" : "unkept";
  }

  get isFree() {
    return performance.now() >= this.#notBefore;
  }

  /** @param {Message} message */
  keepsBack(message) {
    const isKeptBack = this.#isOnItsWay(message);
    if (isKeptBack) this.#keptBack.set(message.id, message);
    return isKeptBack;
  }

  /** @param {Draft} draft */
  add(draft) {
    keepDraft(draft);
    this.show();
    this.mark(draft.key, this.isFree ? "sending" : "waiting");
    this.send();
  }

  /** @param {string | undefined} key */
  take(key) {
    const draft = this.drafts.find((other) => other.key === key);
    if (draft) dropDraft(draft);
    this.show();
    return draft;
  }

  show(isSent = false) {
    this.drafts = readDrafts().filter(({ key }) => !this.#settled.has(key));
    const keys = new Set(this.drafts.map(({ key }) => key));
    for (const item of this.#items()) if (!keys.has(item.dataset.key ?? "")) item.remove();
    for (const draft of this.drafts) {
      if (!this.#find(draft.key)) list.element.prepend(this.#createItem(draft));
      if (draft.refused) this.mark(draft.key, "refused", draft.refused.reason);
      else if (draft.held) this.mark(draft.key, "held");
    }
    for (const [id, message] of this.#keptBack) {
      if (this.#isOnItsWay(message)) continue;
      this.#keptBack.delete(id);
      bus.emit("message", message);
    }
    if (this.drafts.some(isHeld) || Object.keys(storage).some((name) => name.startsWith(OWN)))
      bus.emit("own", undefined);
    const left = this.drafts.filter(({ held }) => !held).length;
    if (!left) bus.emit("emptied", { isSent, isHeld: this.drafts.some(isHeld) });
  }

  send() {
    clearTimeout(this.#retry);
    if (this.#isQueued || !this.#next()) return;
    this.#isQueued = true;
    this.#turn = this.#turn.catch(() => {}).then(() => this.#takeTurn());
  }

  async #takeTurn() {
    let wait = 10_000; // after an error
    try {
      await exclusively(() => this.#sendAll());
      wait = this.#notBefore - performance.now();
    } finally {
      this.#isQueued = false;
      if (this.#next()) this.#retry = setTimeout(() => this.send(), Math.max(0, wait));
    }
  }

  async #sendAll() {
    this.#isQueued = false;
    for (let draft; this.isFree && (draft = this.#next());) await this.#sendOne(draft);
  }

  /** Send again what failed or hangs since the outage. @param {boolean} hangs */
  #sendSoon(hangs) {
    if (hangs) this.#posting?.abort();
    this.#isBack = true;
    this.#attempts = 0;
    this.#notBefore = Math.min(this.#notBefore, this.#rateLimit);
    this.send();
  }

  #next() {
    return readDrafts().find((draft) => isUnsent(draft) && !this.#settled.has(draft.key));
  }

  /** @param {Draft} draft */
  async #sendOne(draft) {
    if (Date.now() - draft.at > KEY_LIVES) return this.refuse(draft, { status: "stale" });
    this.mark(draft.key, "sending");
    bus.emit("broadcast", { sending: draft.key });
    this.#isBack = false;
    this.#posting = new AbortController();
    const outcome = await this.post(draft, this.#posting);
    const { message, held, problem, why = "unreachable", seconds = 0 } = outcome;
    if (message || held) this.#attempts = 0;
    if (message) this.finish(draft, message);
    else if (held) this.#update(draft, { held: held.id });
    else if (problem) this.refuse(draft, problem);
    else if (why === "often" || !this.#isBack) {
      this.#attempts += 1;
      const ms = seconds > 0 ? seconds * 1000 + Math.random() * 500 : backOff(this.#attempts);
      this.#delay({ why, ms });
      bus.emit("broadcast", { waiting: { why, ms } });
    }
  }

  /** @param {Draft} draft @param {AbortController} [abort] @returns {Promise<Outcome>} */
  async post({ key, text, author }, abort) {
    const body = { text, author: author || undefined };
    const answer = await send("POST", "/messages", { key, body, abort });
    if (!answer) return { why: "unreachable" };
    const { status, ok, isProblem, body: taken, headers } = answer;
    if (ok && isMessage(taken)) return status === 202 ? { held: taken } : { message: taken };
    if (status >= 400 && status < 500 && !LATER.includes(status))
      // A firewall's 403 has reasons of its own.
      return { problem: isProblem || status !== 403 ? { status, ...taken } : { status: "other" } };
    return { why: status === 429 ? "often" : "busy", seconds: Number(headers.get("Retry-After")) };
  }

  /** @param {Draft} draft @param {Message} message */
  finish(draft, message) {
    const settled = { key: draft.key, message };
    store(storage, OWN + message.id, draft.key);
    bus.emit("settled", settled);
    bus.emit("broadcast", { settled });
    dropDraft(draft);
  }

  /** Change a draft, unless it was taken back meanwhile. @param {Draft} draft @param {Partial<Draft>} change */
  #update(draft, change) {
    Object.assign(draft, change);
    if (!readDrafts().some(({ key }) => key === draft.key)) return;
    keepDraft(draft);
    this.show();
    if (draft.refused) bus.emit("refused", draft);
  }

  /** @param {Settled} settled */
  #settle({ key, message }) {
    const item = this.#find(key);
    this.#settled.add(key);
    item?.remove();
    if (item || this.#keptBack.delete(message.id)) list.show(message, !item);
    this.show(Boolean(item));
  }

  /** @param {Delay} delay */
  #delay({ why, ms }) {
    for (const draft of this.drafts) if (isUnsent(draft)) this.mark(draft.key, "waiting");
    if (this.drafts.length) bus.emit("delayed", why);
    this.#notBefore = performance.now() + ms;
    if (why === "often") this.#rateLimit = this.#notBefore;
  }

  /** @param {Draft} draft @param {ProblemDetails} problem */
  refuse(draft, problem) {
    this.#update(draft, { refused: explain(problem) });
  }

  /** @param {Message} message */
  #isOnItsWay(message) {
    return this.drafts.some((draft) => !draft.held && isSame(draft, message));
  }

  #items() {
    return /** @type {NodeListOf<HTMLElement>} */ (list.element.querySelectorAll(".pending"));
  }

  /** @param {string} key */
  #find(key) {
    return [...this.#items()].find(({ dataset }) => dataset.key === key);
  }

  /** @param {Draft} draft */
  #createItem({ key, text, author, at }) {
    const item = createEntry({ id: "", text, author, posted_at: new Date(at).toISOString(), pod: "" });
    item.classList.add("pending");
    item.dataset.key = key;
    item.append(cloneTemplate("way"));
    return item;
  }

  /** @param {string} key @param {string} state @param {string} [reason] */
  mark(key, state, reason) {
    const item = this.#find(key);
    if (!item) return;
    item.dataset.state = state;
    const why = part(item, ".why");
    why.textContent = reason ?? why.dataset[state === "waiting" ? this.waiting : state] ?? "";
  }
}
