import { byId, find, part } from "./browser.js";
import { hueOf } from "./text.js";

const KEPT = 100;

/** A restarted pod may be listed beside its forerunner. @param {Pod} pod */
export const keyOf = ({ name, started_at }) => `${name} ${started_at}`;

export class Happenings {
  #texts;
  #element = byId("happenings");
  /** @type {Map<string, Pod> | undefined} */
  #pods;
  #isRedisAway = false;

  /** @param {Page} page */
  constructor({ bus, texts }) {
    this.#texts = texts;
    bus.on("pods", (event) => this.#compare(event));
    bus.on("moved", ({ from, to, seconds }) =>
      this.add(from === to ? "back" : "moved", { from, to, seconds }),
    );
  }

  /** @param {string} what @param {object} [values] */
  add(what, values = {}) {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = this.#texts.clock.format();
    item.dataset.what = what;
    item.append(time, " ", this.#texts.fill(this.#element.dataset[what] ?? what, values));
    this.#element.prepend(item);
    if (this.#element.childElementCount > KEPT) this.#element.lastElementChild?.remove();
  }

  /** @param {PodsEvent} event */
  #compare({ pods, redis }) {
    if (this.#isRedisAway !== (redis === "away")) {
      this.#isRedisAway = !this.#isRedisAway;
      this.add(this.#isRedisAway ? "redisAway" : "redisBack");
    }
    if (this.#pods) this.#addChanges(pods, this.#pods);
    this.#pods = new Map(pods.map((pod) => [keyOf(pod), pod]));
  }

  /** @param {Pod[]} pods @param {Map<string, Pod>} known */
  #addChanges(pods, known) {
    const names = new Set(pods.map(({ name }) => name));
    const namesBefore = new Set([...known.values()].map(({ name }) => name));
    for (const name of namesBefore) if (!names.has(name)) this.add("gone", { pod: name });
    for (const pod of pods) {
      const { name, version, state } = pod;
      const before = known.get(keyOf(pod));
      if (!before) this.add(namesBefore.has(name) ? "restarted" : "come", { pod: name, version });
      else if (before.state !== state && state === "draining") this.add("draining", { pod: name });
    }
  }
}

/** By version, the newest at the end: a restarted pod of an old one changes nothing. @param {Pod[]} pods */
export function groupByVersion(pods) {
  /** @type {Map<string, Pod[]>} */
  const groups = new Map();
  for (const pod of pods) groups.set(pod.version, [...(groups.get(pod.version) ?? []), pod]);
  const start = (/** @type {Pod[]} */ group) => group.map((pod) => pod.started_at).sort()[0];
  return [...groups].sort(([, one], [, other]) => (start(one) < start(other) ? -1 : 1));
}

/** How many are online; guests see nothing more. */
export class Watching {
  #texts;
  #element = byId("watching");

  /** @param {Page} page */
  constructor({ main, bus, texts }) {
    this.#texts = texts;
    bus.on("pods", ({ pods, streams, pod }) => {
      if (pod) main.dataset.pod = pod;
      const { watching, other } = this.#element.dataset;
      const online = texts.fill(watching, { n: streams });
      this.#element.textContent = other ? `${online}, ${this.#countOf(pods)}` : online;
    });
  }

  /** @param {Pod[]} pods */
  #countOf(pods) {
    const versions = groupByVersion(pods).map(([version, group]) => `v${version}\xa0×\xa0${group.length}`);
    const count = this.#texts.count(this.#element, pods.length);
    return versions.length > 1 ? `${count} (${versions.join(" → ")})` : count;
  }
}

/** The panel's summary; what is in it comes when it is open. */
export class PodPanel {
  #page;
  #panel = byId("pods");
  #isLoading = false;

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
    page.bus.on("pods", () => this.#showServing());
    if (this.#panel instanceof HTMLDetailsElement) this.#open(this.#panel, page.storage);
    else this.#load();
  }

  /** @param {HTMLDetailsElement} panel @param {Page["storage"]} storage */
  #open(panel, storage) {
    panel.addEventListener("toggle", () => panel.open && this.#load());
    const choice = storage["guestbook.pods"];
    panel.open = choice
      ? choice === "open"
      : matchMedia("(min-width: 56rem)").matches || "lab" in this.#page.main.dataset;
    part(panel, "summary").addEventListener(
      "click",
      () => (storage["guestbook.pods"] = panel.open ? "closed" : "open"),
    );
  }

  async #load() {
    if (this.#isLoading) return;
    this.#isLoading = true;
    try {
      (await import("./panel/panel.js")).start(this.#page);
    } catch {
      this.#isLoading = false; // again when it is opened again
    }
  }

  #showServing() {
    const name = find("pod");
    if (!name) return;
    name.textContent = this.#page.main.dataset.pod ?? "";
    name.dataset.hue = hueOf(name.textContent);
  }
}
