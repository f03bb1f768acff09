import { bus, byId, main } from "./browser.js";
import { backOff, getListing } from "./requests.js";

const PATIENCE = 6_000; // for the first event
const SETTLED = 5_000; // a stream this old was no failure
const BLOCKED = 5; // failures in a row
const POLL = 3_000;
const CLOSED = 2; // EventSource.CLOSED

/** Compare ids as numbers: as texts, "9-0" would be newer than "10-0". @param {string} one @param {string} other */
export function isNewer(one, other) {
  const [ms, number] = one.split("-").map(BigInt);
  const [otherMs, otherNumber] = other.split("-").map(BigInt);
  return ms === otherMs ? number > otherNumber : ms > otherMs;
}

/** The cursor, and the order of events. */
class Timeline {
  /** For other tabs. @type {Item[]} */
  recent = [];
  /** @type {Item | undefined} */
  lastPods;
  lastEventAt = Date.now();
  renewals = 0; // under way

  get cursor() {
    return main.dataset.cursor ?? "";
  }

  /** Return whether there was no event for so long, also if the clock was set back. @param {number} ms */
  isSilentFor(ms) {
    return Math.abs(Date.now() - this.lastEventAt) > ms;
  }

  /** @param {Item} item */
  take(item) {
    if (item.id) {
      if (this.cursor && !isNewer(item.id, this.cursor)) return;
      main.dataset.cursor = item.id;
      this.recent.push(item);
      if (this.recent.length > 500) this.recent.shift();
    }
    if (item.name === "pods") this.lastPods = item;
    bus.emit(item.name, item.data);
  }

  /** @param {Item["name"]} name @param {any} [data] @param {string} [id] */
  share(name, data, id) {
    const item = { name, data, id, after: this.cursor };
    bus.emit("broadcast", { item });
    this.take(item);
  }

  /** Read the list, and continue from its cursor. @returns {Promise<"behind" | "current" | undefined>} */
  async renew() {
    this.renewals += 1;
    const listing = await getListing("limit=50");
    this.renewals -= 1;
    if (!listing) return;
    const { cursor } = this;
    bus.emit("listing", { ...listing, isNews: Boolean(cursor) });
    this.recent = [];
    main.dataset.cursor = listing.cursor;
    // The pod that answered may have been frozen while the stream was further on.
    return !cursor || isNewer(cursor, listing.cursor) ? "behind" : "current";
  }
}

export const timeline = new Timeline();

/** The stream, and polling where streams are blocked. */
class Live {
  /** @type {EventSource | undefined} */
  #source;
  #timer = 0;
  #due = 0; // a hidden tab's timer may be a minute late
  #aliveSince = 0;
  #failures = 0;
  #hasWorked = false;
  /** @type {{pod: string, at: number} | undefined} */
  #lost;
  #isHidden = false; // and alone: a stream would take one of six connections to the host
  #polls = 0;
  #polling = 0;

  constructor() {
    bus.on("pods", () => {
      if (this.isLeading && this.#aliveSince) this.#shareState();
    });
    addEventListener("offline", () => this.fail());
  }

  get isLeading() {
    return "leader" in main.dataset;
  }

  /** @returns {State} */
  get state() {
    if (this.#aliveSince) return timeline.lastPods?.data.redis === "away" ? "away" : "live";
    if (!navigator.onLine) return "offline";
    return this.#polls ? "polling" : "reconnecting";
  }

  start(isHidden = false) {
    main.dataset.leader = "true";
    this.#isHidden = isHidden;
    this.#connect();
  }

  stop() {
    delete main.dataset.leader;
    clearTimeout(this.#timer);
    this.#stopPolling();
    this.#source?.close();
    this.#aliveSince = 0;
  }

  wake(isHidden = false) {
    this.#isHidden = isHidden;
    if (isHidden || this.#isClosed()) this.#connect();
  }

  /** False where the stream is up. */
  retry() {
    if (this.#isClosed()) {
      if (Date.now() >= this.#due && !timeline.renewals) this.#connect();
      return true;
    }
    if (this.#aliveSince) return false;
    if (timeline.isSilentFor(PATIENCE)) {
      this.#failures += this.#hasWorked ? 2 : BLOCKED; // a frozen pod, or something holds streams back
      this.fail();
    }
    return true;
  }

  #isClosed() {
    return !this.#source || this.#source.readyState === CLOSED;
  }

  #shareState() {
    timeline.share("state", this.state);
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#source?.close();
    timeline.lastEventAt = Date.now();
    this.#aliveSince = 0;
    if (this.#isHidden) return this.#startPolling();
    const { cursor } = timeline;
    try {
      this.#source = new EventSource(cursor ? `/events?after=${encodeURIComponent(cursor)}` : "/events");
    } catch {
      this.#source = undefined;
      this.#failures += BLOCKED;
      return this.fail();
    }
    this.#listen(this.#source);
  }

  /** @param {EventSource} stream */
  #listen(stream) {
    stream.onerror = () => this.fail();
    stream.addEventListener("bye", () => {
      this.#rememberLoss();
      this.#pause(100 + Math.random() * 500);
    });
    stream.addEventListener("reset", () => {
      stream.close();
      this.#aliveSince = 0;
      this.#lost = undefined;
      this.#shareState();
      this.#renew(true);
    });
    for (const name of /** @type {Item["name"][]} */ (["message", "deleted", "edited", "pods", "ping"])) {
      stream.addEventListener(name, (event) => this.#receive(name, /** @type {MessageEvent} */ (event)));
    }
  }

  /** @param {Item["name"]} name @param {MessageEvent} event */
  #receive(name, { data: json, lastEventId }) {
    const { cursor } = timeline;
    const data = JSON.parse(json);
    this.#markAlive();
    // Events without an id have the last one's.
    const id = name === "pods" || name === "ping" ? undefined : lastEventId;
    if (name === "pods") data.skew = Date.now() - data.now; // for the other tabs, too
    if (cursor || !id) timeline.share(name, data, id);
    if (name === "pods") this.#reportMove(data.pod);
    // The page was made before its pod had read the messages.
    if (!cursor && !timeline.renewals) this.#renew();
  }

  #markAlive() {
    timeline.lastEventAt = Date.now();
    if (this.#aliveSince) return;
    this.#aliveSince = Date.now();
    this.#hasWorked = true;
    this.#stopPolling();
    this.#shareState();
  }

  /** Load the list again; if it ends before the stream's cursor, reconnect from the list's end. */
  async #renew(isReset = false) {
    const stream = this.#source;
    const { cursor } = timeline;
    const outcome = await timeline.renew();
    if (!this.isLeading) return outcome;
    if (outcome) bus.emit("broadcast", { renew: true });
    const isEnded = isReset && this.#source === stream;
    if (isEnded && timeline.cursor === cursor)
      this.fail(); // not at once: the answer would be the same
    else if (isEnded || (outcome === "behind" && !this.#isClosed())) this.#connect();
    return outcome;
  }

  #rememberLoss(at = Date.now()) {
    this.#lost ??= { pod: main.dataset.pod ?? "", at };
  }

  /** @param {number} [since] */
  fail(since) {
    if (!this.isLeading) return;
    if (this.#aliveSince) this.#rememberLoss(since);
    const wasSettled = this.#aliveSince && Date.now() - this.#aliveSince > SETTLED;
    // Offline says nothing about whether streams are blocked.
    this.#failures = wasSettled ? 0 : this.#failures + Number(navigator.onLine);
    if (this.#failures >= BLOCKED) this.#startPolling();
    this.#pause(this.#polls ? 30_000 * (1 + Math.random()) : backOff(this.#failures));
  }

  /** @param {number} ms */
  #pause(ms) {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#aliveSince = 0;
    this.#shareState();
    this.#due = Date.now() + ms;
    this.#timer = setTimeout(() => this.#connect(), ms);
  }

  /** @param {string} pod */
  #reportMove(pod) {
    if (!this.#lost) return;
    const { pod: from, at } = this.#lost;
    const seconds = (Date.now() - at) / 1000;
    // A reset would follow at once.
    setTimeout(() => {
      if (this.#lost) timeline.share("moved", { from, to: pod, seconds });
      this.#lost = undefined;
    }, 200);
  }

  #startPolling() {
    this.#polling ||= setTimeout(() => this.#poll());
  }

  #stopPolling() {
    clearTimeout(this.#polling);
    this.#polling = 0;
    this.#polls = 0;
  }

  async #poll() {
    const { cursor } = timeline;
    const turn = this.#polling;
    const isToRead = cursor && this.#polls; // first the list: also for its pod's clock
    const changes = isToRead ? await getListing(`limit=500&changes=true&after=${cursor}`) : undefined;
    if (turn !== this.#polling) return;
    const { messages = [], edited = [], deleted = [], reset, more } = changes ?? {};
    const isToRenew = !isToRead || reset || edited.length || deleted.length; // these have no cursor each
    if (!isToRenew) for (const message of messages) timeline.share("message", message, message.id);
    for (const message of edited) timeline.share("edited", message);
    for (const id of deleted) timeline.share("deleted", { id });
    const works = isToRenew ? await this.#renew() : changes;
    if (turn !== this.#polling) return;
    this.#polls = works ? this.#polls + 1 : 0;
    if (this.#polls === 1 && this.#isClosed()) this.#connect(); // streams may work, too
    this.#shareState();
    const ms = more ? 0 : (this.#isHidden ? 10 : 1) * POLL * (0.75 + Math.random() / 2);
    this.#polling = works ? setTimeout(() => this.#poll(), ms) : 0;
  }
}

export const live = new Live();

bus.on("state", (state) => {
  const { dataset } = document.documentElement;
  if (dataset.state === state) return;
  dataset.state = state;
  byId("state").textContent = byId("state").dataset[state] ?? "";
});
