import { openChannel } from "./browser.js";
import { SILENCE } from "./live.js";
import { isNewer } from "./text.js";

export class Tabs {
  #page;
  #channel = openChannel("guestbook");
  #isAlone = !this.#channel || !navigator.locks;
  /** @type {AbortController | undefined} */
  #application;
  #resign = () => {};

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
    const { bus, live } = page;
    bus.on("broadcast", (message) => this.#broadcast(message));
    this.#channel?.addEventListener("message", ({ data }) => this.#receive(data));
    // Behind the back button a page holds neither stream nor lock.
    addEventListener("pagehide", () => {
      this.#application?.abort();
      this.#application = undefined;
      this.#resign();
      this.#follow();
    });
    addEventListener("pageshow", ({ persisted }) => persisted && this.apply());
    setInterval(() => (live.isLeading ? live.watch() : this.#watchLeader()), 5_000);
  }

  async apply({ steal = false } = {}) {
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
    else if (this.#page.timeline.isSilentFor(SILENCE / 2)) this.#broadcast({ wake: true });
  }

  /** @param {TabMessage} message */
  #broadcast(message) {
    this.#channel?.postMessage(message);
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

  #watchLeader() {
    if (this.#page.timeline.isSilentFor(SILENCE + 20_000)) {
      this.#page.timeline.lastEventAt = Date.now();
      this.apply({ steal: true });
    } else if (
      this.#page.timeline.isSilentFor(SILENCE) ||
      (!document.hidden && this.#page.status.current !== "live")
    ) {
      this.#broadcast({ watch: true });
    }
  }

  /** @param {TabMessage} message */
  #receive(message) {
    if (message.settled) this.#page.bus.emit("settled", message.settled);
    else if (message.waiting) this.#page.bus.emit("waiting", message.waiting);
    else if (message.sending) this.#page.bus.emit("sending", message.sending);
    else if (this.#page.live.isLeading) this.#answer(message);
    else {
      if (message.item || message.catchUp) this.#page.timeline.lastEventAt = Date.now();
      if (message.item) this.#take(message.item);
      else if (message.catchUp) this.#catchUp(message.catchUp);
      else if (message.led) this.#hello();
      else if (message.renew) this.#renew();
    }
  }

  /** @param {TabMessage} message */
  #answer({ hello, wake, watch }) {
    if (hello !== undefined) this.#answerHello(hello);
    else if (wake) this.#page.live.wake();
    else if (watch) this.#page.live.watch();
    if (wake || watch) this.#page.timeline.share("ping");
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
    if (!this.#page.timeline.renewals) await this.#page.timeline.renew();
  }

  /** @param {Item} item */
  #take(item) {
    const { cursor } = this.#page.timeline;
    const isMissing = item.id && (!cursor || isNewer(item.after || "0-0", cursor));
    if (isMissing) this.#hello();
    else this.#page.timeline.take(item);
  }
}
