import { backOff, cloneTemplate, exclusively, isMessage, parse, part, request, store } from "./browser.js";

const PREFIX = "guestbook.outbox.";
export const OWN = "guestbook.own."; // a message's id; the value is its key
const KEY_LIVES = 23 * 3600 * 1000; // the server forgets them after 24
const LATER = [408, 429];

/** At the guestbook, but not approved yet. @param {Draft} draft */
export const isHeld = ({ held, refused }) => Boolean(held && !refused);

/** @param {Draft} draft @param {Message} message */
export const isSame = (draft, { text, author }) => draft.text === text && (draft.author || null) === author;

/** @param {Draft} draft */
const nameOf = ({ at, key }) => `${PREFIX}${at}-${key}`;

export class Outbox {
  #page;
  /** @type {Draft[]} */
  drafts = [];
  /** @type {Set<string>} */
  #settled = new Set();
  /** May be ours: the answer to our post will tell. @type {Map<string, Message>} */
  #held = new Map();
  #notBefore = 0;
  #rateLimit = 0;
  #attempts = 0;
  #retry = 0;
  #isQueued = false;
  /** @type {AbortController | undefined} */
  #posting;
  #isBack = false; // the stream, since a post began
  #turn = Promise.resolve();
  /** What the storage has no room for. @type {Record<string, string>} */
  #unkept = {};

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
    const { bus } = page;
    /** @type {State | undefined} */
    let before;
    bus.on("state", (state) => {
      if (state === "live" && before !== state) this.#sendSoon(before === "away");
      before = state;
    });
    bus.on("deleted", ({ id }) => this.#held.delete(id));
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

  get isFree() {
    return performance.now() >= this.#notBefore;
  }

  /** What to say of what waits: whether it would survive a reload. */
  get waiting() {
    const isKept = this.#page.storage instanceof Storage && !Object.keys(this.#unkept).length;
    return isKept ? "waiting" : "unkept";
  }

  /** @param {Message} message */
  hold(message) {
    const isHeld = this.#isOnItsWay(message);
    if (isHeld) this.#held.set(message.id, message);
    return isHeld;
  }

  /** Each draft is an item: no tab writes another's. @param {Draft} draft */
  keep(draft) {
    const json = JSON.stringify(draft);
    this.#drop(draft);
    if (!store(this.#page.storage, nameOf(draft), json)) this.#unkept[nameOf(draft)] = json;
  }

  /** @param {Draft} draft */
  #drop(draft) {
    for (const storage of [this.#page.storage, this.#unkept]) delete storage[nameOf(draft)];
  }

  /** @param {string} key */
  announce(key) {
    this.show();
    this.mark(key, this.isFree ? "sending" : "waiting");
    this.send();
  }

  /** @param {string | undefined} key */
  take(key) {
    const draft = this.drafts.find((other) => other.key === key);
    if (draft) this.#drop(draft);
    this.show();
    return draft;
  }

  show(isSent = false) {
    this.drafts = this.#read().filter(({ key }) => !this.#settled.has(key));
    const keys = new Set(this.drafts.map(({ key }) => key));
    for (const item of this.#items()) if (!keys.has(item.dataset.key ?? "")) item.remove();
    for (const draft of this.drafts) {
      if (!this.#find(draft.key)) this.#page.list.element.prepend(this.#createItem(draft));
      if (draft.refused) this.mark(draft.key, "refused", draft.refused.reason);
      else if (draft.held) this.mark(draft.key, "held");
    }
    for (const [id, message] of this.#held) {
      if (this.#isOnItsWay(message)) continue;
      this.#held.delete(id);
      this.#page.bus.emit("message", message);
    }
    if (this.drafts.some(isHeld) || Object.keys(this.#page.storage).some((name) => name.startsWith(OWN)))
      this.#page.bus.emit("own", undefined);
    const left = this.drafts.filter(({ held }) => !held).length;
    if (!left) this.#page.bus.emit("emptied", { isSent, isHeld: this.drafts.some(isHeld) });
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
      await exclusively("guestbook.outbox", () => this.#sendAll());
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

  /** What failed or hangs since the outage is sent again. @param {boolean} hangs */
  #sendSoon(hangs) {
    if (hangs) this.#posting?.abort();
    this.#isBack = true;
    this.#attempts = 0;
    this.#notBefore = Math.min(this.#notBefore, this.#rateLimit);
    this.send();
  }

  #next() {
    return this.#read().find(({ key, refused, held }) => !refused && !held && !this.#settled.has(key));
  }

  /** @param {Draft} draft */
  async #sendOne(draft) {
    if (Date.now() - draft.at > KEY_LIVES) return this.refuse(draft, { status: "stale" });
    this.mark(draft.key, "sending");
    this.#page.bus.emit("broadcast", { sending: draft.key });
    this.#isBack = false;
    this.#posting = new AbortController();
    const {
      message,
      held,
      problem,
      why = "unreachable",
      seconds = 0,
    } = await this.post(draft, this.#posting);
    if (message || held) this.#attempts = 0;
    if (message) this.finish(draft, message);
    else if (held) this.#update(draft, { held: held.id });
    else if (problem) this.refuse(draft, problem);
    else if (why === "often" || !this.#isBack) {
      this.#attempts += 1;
      const ms = seconds > 0 ? seconds * 1000 + Math.random() * 500 : backOff(this.#attempts);
      this.#delay({ why, ms });
      this.#page.bus.emit("broadcast", { waiting: { why, ms } });
    }
  }

  /** @param {Draft} draft @param {AbortController} [abort] @returns {Promise<Outcome>} */
  async post({ key, text, author }, abort) {
    const options = {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json", "Idempotency-Key": key },
      body: JSON.stringify({ text, author: author || undefined }),
    };
    const answer = await request(this.#page.form.action, options, 15_000, abort);
    if (!answer) return { why: "unreachable" };
    const { status, ok, isProblem, body, seconds } = answer;
    if (ok && isMessage(body)) return status === 202 ? { held: body } : { message: body };
    if (status >= 400 && status < 500 && !LATER.includes(status))
      // A firewall's 403 has reasons of its own.
      return { problem: isProblem || status !== 403 ? { status, ...body } : { status: "other" } };
    return { why: status === 429 ? "often" : "busy", seconds };
  }

  /** @param {Draft} draft @param {Message} message */
  finish(draft, message) {
    const settled = { key: draft.key, message };
    store(this.#page.storage, OWN + message.id, draft.key);
    this.#page.bus.emit("settled", settled);
    this.#page.bus.emit("broadcast", { settled });
    this.#drop(draft);
  }

  /** Unless it was taken back meanwhile. @param {Draft} draft @param {Partial<Draft>} change */
  #update(draft, change) {
    Object.assign(draft, change);
    if (!this.#read().some(({ key }) => key === draft.key)) return;
    this.keep(draft);
    this.show();
    if (draft.refused) this.#page.bus.emit("refused", draft);
  }

  /** @param {Settled} settled */
  #settle({ key, message }) {
    const item = this.#find(key);
    this.#settled.add(key);
    item?.remove();
    if (item || this.#held.delete(message.id)) this.#page.list.show(message, !item);
    this.show(Boolean(item));
  }

  /** @param {Delay} delay */
  #delay({ why, ms }) {
    for (const { key, refused, held } of this.drafts) if (!refused && !held) this.mark(key, "waiting");
    if (this.drafts.length) this.#page.bus.emit("delayed", why);
    this.#notBefore = performance.now() + ms;
    if (why === "often") this.#rateLimit = this.#notBefore;
  }

  /** @param {Draft} draft @param {ProblemDetails} problem */
  refuse(draft, problem) {
    this.#update(draft, { refused: this.#page.problems.explain(problem, draft) });
  }

  /** @param {Message} message */
  #isOnItsWay(message) {
    return this.drafts.some((draft) => !draft.held && isSame(draft, message));
  }

  /** @returns {Draft[]} */
  #read() {
    const { storage } = this.#page;
    return [...Object.keys(storage), ...Object.keys(this.#unkept)]
      .filter((name) => name.startsWith(PREFIX))
      .sort()
      .map((name) => parse(storage[name] ?? this.#unkept[name]))
      .filter((draft) => typeof draft?.text === "string" && typeof draft.key === "string");
  }

  #items() {
    return /** @type {NodeListOf<HTMLElement>} */ (this.#page.list.element.querySelectorAll(".pending"));
  }

  /** @param {string} key */
  #find(key) {
    return [...this.#items()].find(({ dataset }) => dataset.key === key);
  }

  /** @param {Draft} draft */
  #createItem({ key, text, author, at }) {
    const item = this.#page.list.createItem({
      id: "",
      text,
      author,
      posted_at: new Date(at).toISOString(),
      pod: "",
    });
    item.removeAttribute("id");
    delete item.dataset.id;
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
