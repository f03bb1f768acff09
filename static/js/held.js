import { backOff, isMessage, openStorage, parse, request } from "./browser.js";

const SILENCE = 40_000; // two pings and a half
const DECISIONS = "guestbook.decisions";
const UNDO = 5_000; // a decision may be undone for so long before it is sent

/** The token stays in the tab, and in no address. */
export class Session {
  #storage = openStorage("sessionStorage");

  /** @param {(status: number) => void} onRefused where the token is not accepted */
  constructor(onRefused) {
    this.onRefused = onRefused;
  }

  /** @param {number} status */
  refuses(status) {
    const isRefused = status === 401 || status === 403;
    if (isRefused) this.onRefused(status);
    return isRefused;
  }

  get token() {
    return this.#storage["guestbook.token"] ?? "";
  }

  set token(token) {
    this.#storage["guestbook.token"] = token;
  }

  /** @returns {Decision[]} */
  get decisions() {
    return parse(this.#storage[DECISIONS] ?? "[]") ?? [];
  }

  set decisions(decisions) {
    this.#storage[DECISIONS] = JSON.stringify(decisions);
  }

  /** Headers are Latin-1, and the server reads UTF-8 in them. */
  get headers() {
    const bytes = new TextEncoder().encode(this.token);
    return { Accept: "application/json", Authorization: `Bearer ${String.fromCharCode(...bytes)}` };
  }

  /** @param {string} method @param {string} path @param {object} [body] @param {RequestInit} [more] */
  async call(method, path, body, more) {
    const headers = { ...this.headers, ...(body && { "Content-Type": "application/json" }) };
    const options = { method, headers, cache: /** @type {RequestCache} */ ("no-store"), ...more };
    const answer = await request(path, { ...options, body: body && JSON.stringify(body) }, 15_000);
    return answer && { ...answer, isRefused: this.refuses(answer.status) };
  }
}

/** The messages that wait, as the server sends them whenever they change. */
export class HeldStream {
  #session;
  #abort = new AbortController();
  #timer = 0;
  #failures = 0;
  #lastAt = Date.now();
  #isRunning = false;

  /** @param {Session} session @param {HeldListener} listener */
  constructor(session, listener) {
    this.#session = session;
    this.listener = listener;
    setInterval(() => Math.abs(Date.now() - this.#lastAt) > SILENCE && this.#abort.abort(), 5_000);
  }

  stop() {
    this.#isRunning = false;
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  start() {
    this.stop();
    this.#isRunning = true;
    this.#connect((this.#abort = new AbortController()));
  }

  /** @param {AbortController} abort */
  async #connect(abort) {
    this.#lastAt = Date.now();
    let status = 0;
    try {
      status = await this.#read(abort.signal);
    } catch {
      // The network, or a stream that was cut.
    }
    if (!this.#isRunning || abort !== this.#abort) return;
    if (this.#session.refuses(status)) return;
    this.listener.lost();
    this.#timer = setTimeout(() => this.start(), status === 200 ? 300 : backOff(this.#failures++));
  }

  /** Returns the status: 200 if the server ended the stream. @param {AbortSignal} signal */
  async #read(signal) {
    const { headers } = this.#session;
    const response = await fetch("/held/events", { headers, signal, cache: "no-store" });
    if (!response.ok || !response.body) return response.status;
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (let text = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return 200;
      this.#lastAt = Date.now();
      const blocks = (text + decoder.decode(value, { stream: true })).split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) this.#take(block);
    }
  }

  /** @param {string} block */
  #take(block) {
    const data = parse(/^data: ?(.*)$/m.exec(block)?.[1] ?? "");
    if (!/^event: ?held$/m.test(block) || !data?.messages?.every(isMessage)) return;
    this.#failures = 0;
    this.listener.held(data.messages, data.waiting);
  }
}

/** What a moderator decided: sent in order, a few seconds later, until the server has it. */
export class Decisions {
  #session;
  #listener;
  #timer = 0;
  #failures = 0;
  /** @type {Decision | undefined} */
  #sending;
  /** @type {Decision[]} */
  waiting;

  /** @param {Session} session @param {DecisionListener} listener */
  constructor(session, listener) {
    this.#session = session;
    this.#listener = listener;
    this.waiting = session.decisions; // what could not be sent before a reload
    addEventListener("pagehide", () => this.flush());
    document.addEventListener("visibilitychange", () => document.hidden && this.flush());
  }

  /** @param {Omit<Decision, "due">} decision */
  add(decision) {
    this.waiting.push({ ...decision, due: Date.now() + UNDO });
    this.#plan();
  }

  get canUndo() {
    const last = this.waiting[this.waiting.length - 1];
    return Boolean(last && last !== this.#sending && !last.isFlushed);
  }

  undo() {
    if (!this.canUndo) return;
    const decision = this.waiting.pop();
    this.#plan();
    return decision;
  }

  /** The page may not come back. */
  flush() {
    if (!this.#session.token) return;
    for (const decision of this.waiting) {
      if (decision === this.#sending) continue;
      decision.isFlushed = true;
      decision.due = 0;
      this.#post(decision, { keepalive: true });
    }
    this.#plan();
  }

  /** Now, if something waits: the network is back, or the moderator. */
  resume() {
    this.#failures = 0;
    this.#plan();
  }

  #plan(delay = 0) {
    this.#session.decisions = this.waiting;
    clearTimeout(this.#timer);
    const [first] = this.waiting;
    if (!first || this.#sending || !this.#session.token) return;
    this.#timer = setTimeout(
      () => this.#send(first),
      Math.max(delay, Math.min(UNDO, first.due - Date.now())),
    );
  }

  /** @param {Decision} decision */
  async #send(decision) {
    this.#sending = decision;
    this.#listener.changed();
    const answer = await this.#post(decision);
    this.#sending = undefined;
    if (answer?.isRefused) return;
    if (!answer || answer.status >= 500 || answer.status === 429) {
      this.#listener.failed(this.waiting.length);
      return this.#plan(backOff(this.#failures++));
    }
    this.#failures = 0;
    this.waiting.shift();
    this.#plan();
    this.#listener.sent(decision, answer.ok || Boolean(decision.isFlushed));
  }

  /** @param {Decision} decision @param {RequestInit} [more] */
  #post({ what, id, seconds }, more) {
    if (what === "approve") return this.#session.call("POST", `/held/${id}/approve`, undefined, more);
    if (what === "refuse") return this.#session.call("DELETE", `/held/${id}`, undefined, more);
    if (what === "ban") return this.#session.call("POST", "/bans", { message: id, seconds }, more);
    return this.#session.call("DELETE", `/messages/${id}`, undefined, more);
  }
}
