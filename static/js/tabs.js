import { bus, main } from "./browser.js";
import { list } from "./list.js";
import { isNewer, live, timeline } from "./live.js";
import { send } from "./requests.js";

const SILENCE = 20_000; // a ping is due every 15 s
const QUIET = 7_000;

/** Ask any pod, which knows by heartbeats, whether this one is gone; no answer, twice, means yes. @param {string} pod */
async function isGone(pod) {
  let answer;
  for (let attempt = 0; attempt < 2 && !answer; attempt += 1)
    answer = await send("GET", `/healthz?pod=${encodeURIComponent(pod)}`, { ms: 2_500 });
  return !answer || answer.body?.status === "not alive";
}

function openChannel() {
  try {
    return new BroadcastChannel("guestbook");
  } catch {
    return undefined;
  }
}

/** One tab of a browser holds the stream, and shares its events with the others. */
export class Tabs {
  /** @type {BroadcastChannel | undefined} */
  #channel;
  #isAlone = !navigator.locks;
  /** @type {AbortController | undefined} */
  #application;
  #resign = () => {};
  #checkedAt = 0;

  constructor() {
    bus.on("broadcast", (message) => this.#broadcast(message));
    // Behind the back button and when it is frozen a page holds neither stream nor lock.
    addEventListener("pagehide", () => this.#leave());
    document.addEventListener("freeze", () => this.#leave());
    addEventListener("pageshow", ({ persisted }) => persisted && this.#return());
    document.addEventListener("resume", () => this.#return());
    setInterval(() => this.#watch(), 2_000);
  }

  async apply({ steal = false } = {}) {
    timeline.lastEventAt = Date.now();
    if (!this.#channel) {
      this.#channel = openChannel();
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
        live.stop(); // taken for dead
        setTimeout(() => mine === this.#application && this.apply(), 1_000);
      }
    }
  }

  wake() {
    if (live.isLeading) live.wake(this.#isAlone && document.hidden);
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
    live.stop();
    this.#channel?.close();
    this.#channel = undefined;
  }

  #return() {
    if (!this.#application) this.apply();
  }

  #hello() {
    this.#broadcast({ hello: timeline.cursor });
  }

  /** @returns {Promise<void>} */
  #lead() {
    this.#broadcast({ led: true });
    live.start(this.#isAlone && document.hidden);
    return new Promise((resolve) => (this.#resign = resolve));
  }

  /** A hidden tab's timers may be a minute late, so a visible one does not wait for it. */
  async #watch() {
    const { lastEventAt } = timeline;
    if (live.isLeading && live.retry()) return;
    if (timeline.isSilentFor(live.isLeading || !document.hidden ? SILENCE : 3 * SILENCE)) this.#takeOver();
    else if (!document.hidden && timeline.isSilentFor(QUIET) && this.#checkedAt !== lastEventAt) {
      this.#checkedAt = lastEventAt;
      if ((await isGone(main.dataset.pod ?? "")) && lastEventAt === timeline.lastEventAt) this.#takeOver();
    }
  }

  #takeOver() {
    if (live.isLeading) live.fail(timeline.lastEventAt);
    else this.apply({ steal: true });
  }

  /** @param {TabMessage} message */
  #receive(message) {
    if (message.settled) bus.emit("settled", message.settled);
    else if (message.waiting) bus.emit("waiting", message.waiting);
    else if (message.sending) bus.emit("sending", message.sending);
    else if (live.isLeading) {
      if (message.hello !== undefined) this.#answerHello(message.hello);
    } else {
      if (message.item || message.catchUp) timeline.lastEventAt = Date.now();
      if (message.item) this.#take(message.item);
      else if (message.catchUp) this.#catchUp(message.catchUp);
      else if (message.led) this.#hello();
      else if (message.renew) this.#renew();
    }
  }

  /** @param {string} after */
  #answerHello(after) {
    const { cursor, recent, lastPods } = timeline;
    const start = recent[0]?.after ?? cursor;
    const isKnown = after && start && !isNewer(start, after);
    const items = isKnown ? recent.filter(({ id = "0-0" }) => isNewer(id, after)) : undefined;
    const { state } = live;
    this.#broadcast({ catchUp: { after, items, pods: lastPods, state, deleted: [...list.deleted] } });
  }

  /** @param {CatchUp} message */
  async #catchUp({ after, items, pods, state, deleted }) {
    for (const id of deleted) bus.emit("deleted", { id });
    if (pods) timeline.take(pods);
    bus.emit("state", state);
    if (items) for (const item of items) this.#take(item);
    else if (after === timeline.cursor) await this.#renew();
  }

  async #renew() {
    if (!timeline.renewals && (await timeline.renew()) === "behind") this.#hello();
  }

  /** @param {Item} item */
  #take(item) {
    const { cursor } = timeline;
    const isMissing = item.id && (!cursor || isNewer(item.after || "0-0", cursor));
    if (isMissing) this.#hello();
    else timeline.take(item);
  }
}
