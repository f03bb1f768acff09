import { openChannel, request } from "./browser.js";
import { isNewer } from "./text.js";

const SILENCE = 20_000; // a ping is due every 15 s
const QUIET = 7_000;

/** Whichever pod answers knows by the heartbeats; none in time, twice, is an answer, too. @param {string} pod */
async function isGone(pod) {
  let answer;
  for (let attempt = 0; attempt < 2 && !answer; attempt += 1)
    answer = await request(`/healthz?pod=${encodeURIComponent(pod)}`, { cache: "no-store" }, 2_500);
  return !answer || answer.body?.status === "not alive";
}

export class Tabs {
  #page;
  /** @type {BroadcastChannel | undefined} */
  #channel;
  #isAlone = !navigator.locks;
  /** @type {AbortController | undefined} */
  #application;
  #resign = () => {};
  #checkedAt = 0;

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
    page.bus.on("broadcast", (message) => this.#broadcast(message));
    // Behind the back button and when it is frozen a page holds neither stream nor lock.
    addEventListener("pagehide", () => this.#leave());
    document.addEventListener("freeze", () => this.#leave());
    addEventListener("pageshow", ({ persisted }) => persisted && this.#return());
    document.addEventListener("resume", () => this.#return());
    setInterval(() => this.#watch(), 2_000);
  }

  async apply({ steal = false } = {}) {
    this.#page.timeline.lastEventAt = Date.now();
    if (!this.#channel) {
      this.#channel = openChannel("guestbook");
      this.#channel?.addEventListener("message", ({ data }) => this.#receive(data));
      this.#isAlone ||= !this.#channel;
    }
    if (this.#isAlone) return this.#lead();
    this.#application?.abort(); // else granted, too, later
    const mine = (this.#application = new AbortController());
    let isGranted = false;
    const lead = () => {
      isGranted = true;
      return this.#lead();
    };
    this.#hello();
    try {
      await navigator.locks.request("guestbook.stream", steal ? { steal } : { signal: mine.signal }, lead);
    } catch (error) {
      if (mine !== this.#application) return;
      if (!isGranted) {
        this.#isAlone = true; // refused
        this.#lead();
      } else if (/** @type {Error} */ (error).name !== "AbortError") throw error;
      else {
        this.#follow(); // taken for dead
        setTimeout(() => mine === this.#application && this.apply(), 1_000);
      }
    }
  }

  wake() {
    if (this.#page.live.isLeading) this.#page.live.wake(this.#isAlone && document.hidden);
    this.#watch();
  }

  /** @param {TabMessage} message */
  #broadcast(message) {
    this.#channel?.postMessage(message);
  }

  #leave() {
    this.#application?.abort();
    this.#application = undefined;
    this.#resign();
    this.#follow();
    this.#channel?.close();
    this.#channel = undefined;
  }

  #return() {
    if (!this.#application) this.apply();
  }

  #hello() {
    this.#broadcast({ hello: this.#page.timeline.cursor });
  }

  /** @returns {Promise<void>} */
  #lead() {
    this.#page.main.dataset.leader = "true";
    this.#broadcast({ led: true });
    this.#page.live.start(this.#isAlone && document.hidden);
    return new Promise((resolve) => (this.#resign = resolve));
  }

  #follow() {
    delete this.#page.main.dataset.leader;
    this.#page.live.stop();
  }

  /** A hidden tab's timers may be a minute late: a visible one does not wait for it. */
  async #watch() {
    const { live, timeline, main } = this.#page;
    const { lastEventAt } = timeline;
    if (live.isLeading && live.retry()) return;
    if (timeline.isSilentFor(live.isLeading || !document.hidden ? SILENCE : 3 * SILENCE)) this.#takeOver();
    else if (!document.hidden && timeline.isSilentFor(QUIET) && this.#checkedAt !== lastEventAt) {
      this.#checkedAt = lastEventAt;
      if ((await isGone(main.dataset.pod ?? "")) && lastEventAt === timeline.lastEventAt) this.#takeOver();
    }
  }

  #takeOver() {
    if (this.#page.live.isLeading) this.#page.live.fail(this.#page.timeline.lastEventAt);
    else this.apply({ steal: true });
  }

  /** @param {TabMessage} message */
  #receive(message) {
    if (message.settled) this.#page.bus.emit("settled", message.settled);
    else if (message.waiting) this.#page.bus.emit("waiting", message.waiting);
    else if (message.sending) this.#page.bus.emit("sending", message.sending);
    else if (this.#page.live.isLeading) {
      if (message.hello !== undefined) this.#answerHello(message.hello);
    } else {
      if (message.item || message.catchUp) this.#page.timeline.lastEventAt = Date.now();
      if (message.item) this.#take(message.item);
      else if (message.catchUp) this.#catchUp(message.catchUp);
      else if (message.led) this.#hello();
      else if (message.renew) this.#renew();
    }
  }

  /** @param {string} after */
  #answerHello(after) {
    const { cursor, recent, lastPods } = this.#page.timeline;
    const start = recent[0]?.after ?? cursor;
    const isKnown = after && start && !isNewer(start, after);
    const items = isKnown ? recent.filter(({ id = "0-0" }) => isNewer(id, after)) : undefined;
    const { state } = this.#page.live;
    this.#broadcast({
      catchUp: { after, items, pods: lastPods, state, deleted: [...this.#page.list.deleted] },
    });
  }

  /** @param {CatchUp} message */
  async #catchUp({ after, items, pods, state, deleted }) {
    for (const id of deleted) this.#page.bus.emit("deleted", { id });
    if (pods) this.#page.timeline.take(pods);
    this.#page.bus.emit("state", state);
    if (items) for (const item of items) this.#take(item);
    else if (after === this.#page.timeline.cursor) await this.#renew();
  }

  async #renew() {
    const { timeline } = this.#page;
    if (!timeline.renewals && (await timeline.renew()) === "behind") this.#hello();
  }

  /** @param {Item} item */
  #take(item) {
    const { cursor } = this.#page.timeline;
    const isMissing = item.id && (!cursor || isNewer(item.after || "0-0", cursor));
    if (isMissing) this.#hello();
    else this.#page.timeline.take(item);
  }
}
