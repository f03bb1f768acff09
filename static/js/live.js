import { backOff, byId, getListing } from "./browser.js";
import { isNewer } from "./text.js";

const PATIENCE = 6_000; // for the first event
const SETTLED = 5_000; // a stream this old was no failure
const BLOCKED = 5; // failures in a row
const POLL = 3_000;
const CLOSED = 2; // EventSource.CLOSED

export class Timeline {
  #page;
  /** For other tabs. @type {Item[]} */
  recent = [];
  /** @type {Item | undefined} */
  lastPods;
  lastEventAt = Date.now();
  renewals = 0; // under way

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
  }

  get cursor() {
    return this.#page.main.dataset.cursor ?? "";
  }

  /** Also after a clock was set back. @param {number} ms */
  isSilentFor(ms) {
    return Math.abs(Date.now() - this.lastEventAt) > ms;
  }

  /** @param {Item} item */
  take(item) {
    if (item.id) {
      if (this.cursor && !isNewer(item.id, this.cursor)) return;
      this.#page.main.dataset.cursor = item.id;
      this.recent.push(item);
      if (this.recent.length > 500) this.recent.shift();
    }
    if (item.name === "pods") this.lastPods = item;
    this.#page.bus.emit(item.name, item.data);
  }

  /** @param {Item["name"]} name @param {any} [data] @param {string} [id] */
  share(name, data, id) {
    const item = { name, data, id, after: this.cursor };
    this.#page.bus.emit("broadcast", { item });
    this.take(item);
  }

  /** Read the list, and go on from where it ends. @returns {Promise<"behind" | "current" | undefined>} */
  async renew() {
    this.renewals += 1;
    const listing = await getListing("/messages?limit=50");
    this.renewals -= 1;
    if (!listing) return;
    const { cursor } = this;
    this.#page.bus.emit("listing", { ...listing, isNews: Boolean(cursor) });
    this.recent = [];
    this.#page.main.dataset.cursor = listing.cursor;
    // The pod that answered may have been frozen while the stream was further on.
    return !cursor || isNewer(cursor, listing.cursor) ? "behind" : "current";
  }
}

export class Live {
  #page;
  isLeading = false;
  /** @type {EventSource | undefined} */
  #source;
  #timer = 0;
  #due = 0; // a hidden tab's timer may be a minute late
  #aliveSince = 0;
  #failures = 0;
  #hasWorked = false;
  /** @type {{pod: string, at: number} | undefined} */
  #lost;
  #isRedisAway = false;
  #isHidden = false; // and alone: a stream would take one of six connections to the host
  #polls = 0;
  #polling = 0;

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
    const { bus } = page;
    bus.on("pods", ({ redis }) => {
      this.#isRedisAway = redis === "away";
      if (this.isLeading && this.#aliveSince) this.#shareState();
    });
    addEventListener("offline", () => this.fail());
  }

  /** @returns {State} */
  get state() {
    if (this.#aliveSince) return this.#isRedisAway ? "away" : "live";
    if (!navigator.onLine) return "offline";
    return this.#polls ? "polling" : "reconnecting";
  }

  start(isHidden = false) {
    this.isLeading = true;
    this.#isHidden = isHidden;
    this.#connect();
  }

  stop() {
    this.isLeading = false;
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
      if (Date.now() >= this.#due && !this.#page.timeline.renewals) this.#connect();
      return true;
    }
    if (this.#aliveSince) return false;
    if (this.#page.timeline.isSilentFor(PATIENCE)) {
      this.#failures += this.#hasWorked ? 2 : BLOCKED; // a frozen pod, or something holds streams back
      this.fail();
    }
    return true;
  }

  #isClosed() {
    return !this.#source || this.#source.readyState === CLOSED;
  }

  #shareState() {
    this.#page.timeline.share("state", this.state);
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#page.timeline.lastEventAt = Date.now();
    this.#aliveSince = 0;
    if (this.#isHidden) return this.#startPolling();
    const { cursor } = this.#page.timeline;
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
    const { cursor } = this.#page.timeline;
    const data = JSON.parse(json);
    this.#markAlive();
    // The others bear the id of the last one that had its own.
    const id = name === "pods" || name === "ping" ? undefined : lastEventId;
    if (name === "pods") data.skew = Date.now() - data.now; // for the other tabs, too
    if (cursor || !id) this.#page.timeline.share(name, data, id);
    if (name === "pods") this.#reportMove(data.pod);
    // The page was made before its pod had read the messages.
    if (!cursor && !this.#page.timeline.renewals) this.#renew();
  }

  #markAlive() {
    this.#page.timeline.lastEventAt = Date.now();
    if (this.#aliveSince) return;
    this.#aliveSince = Date.now();
    this.#hasWorked = true;
    this.#stopPolling();
    this.#shareState();
  }

  /** Where the list ends before the stream, that goes back to there. */
  async #renew(isReset = false) {
    const { timeline, bus } = this.#page;
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
    this.#lost ??= { pod: this.#page.main.dataset.pod ?? "", at };
  }

  /** @param {number} [since] */
  fail(since) {
    if (!this.isLeading) return;
    if (this.#aliveSince) this.#rememberLoss(since);
    const wasSettled = this.#aliveSince && Date.now() - this.#aliveSince > SETTLED;
    this.#failures = wasSettled ? 0 : this.#failures + 1;
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
      if (this.#lost) this.#page.timeline.share("moved", { from, to: pod, seconds });
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
    const { timeline } = this.#page;
    const { cursor } = timeline;
    const turn = this.#polling;
    const query = `/messages?limit=500&changes=true&after=${cursor}`;
    const isToRead = cursor && this.#polls; // first the list: also for its pod's clock
    const changes = isToRead ? await getListing(query) : undefined;
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

export class Status {
  #root = document.documentElement;

  /** @param {Page} page */
  constructor({ bus }) {
    bus.on("state", (state) => {
      if (this.current === state) return;
      this.#root.dataset.state = state;
      byId("state").textContent = byId("state").dataset[state] ?? "";
    });
  }

  get current() {
    return this.#root.dataset.state;
  }
}
