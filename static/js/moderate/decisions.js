import { bus, parse, tabStorage } from "../browser.js";
import { backOff } from "../requests.js";
import { session } from "./session.js";

const STORED = "guestbook.decisions";
const UNDO = 5_000; // a decision may be undone for so long before it is sent

/** A moderator's decisions: sent in order, a few seconds later, until the server has them. */
export class Decisions {
  /** Unsent decisions, also from before a reload. @type {Decision[]} */
  waiting = parse(tabStorage[STORED]) ?? [];
  #timer = 0;
  #failures = 0;
  /** @type {Decision | undefined} */
  #sending;

  constructor() {
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
    if (!session.token) return;
    for (const decision of this.waiting) {
      if (decision === this.#sending) continue;
      decision.isFlushed = true;
      decision.due = 0;
      this.#post(decision, true);
    }
    this.#plan();
  }

  /** Send at once: the network is back, or the moderator. */
  resume() {
    this.#failures = 0;
    this.#plan();
  }

  #plan(delay = 0) {
    tabStorage[STORED] = JSON.stringify(this.waiting);
    bus.emit("undoable", this.canUndo);
    clearTimeout(this.#timer);
    const [first] = this.waiting;
    if (!first || this.#sending || !session.token) return;
    const ms = Math.max(delay, Math.min(UNDO, first.due - Date.now()));
    this.#timer = setTimeout(() => this.#send(first), ms);
  }

  /** @param {Decision} decision */
  async #send(decision) {
    this.#sending = decision;
    bus.emit("undoable", this.canUndo);
    const answer = await this.#post(decision);
    this.#sending = undefined;
    if (answer?.isRefused) return;
    if (!answer || answer.status >= 500 || answer.status === 429) {
      bus.emit("reached", false);
      return this.#plan(backOff(this.#failures++));
    }
    this.#failures = 0;
    this.waiting.shift();
    this.#plan();
    bus.emit("decided", { decision, isDone: answer.ok || Boolean(decision.isFlushed) });
  }

  /** @param {Decision} decision */
  #post({ what, id, seconds }, keepalive = false) {
    if (what === "approve") return session.send("POST", `/held/${id}/approve`, { keepalive });
    if (what === "refuse") return session.send("DELETE", `/held/${id}`, { keepalive });
    if (what === "delete") return session.send("DELETE", `/messages/${id}`, { keepalive });
    return session.send("POST", "/bans", { body: { message: id, seconds }, keepalive });
  }
}
