import { byId, cloneTemplate, find, part } from "./browser.js";
import { hueOf } from "./text.js";

/** A restarted pod may be listed beside its forerunner. @param {Pod} pod */
const keyOf = ({ name, started_at }) => `${name} ${started_at}`;

export class Happenings {
  #page;
  #element = byId("happenings");

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
  }

  /** @param {string} what @param {object} [values] */
  add(what, values = {}) {
    const item = document.createElement("li");
    const time = document.createElement("time");
    time.textContent = this.#page.texts.clock.format();
    item.append(time, " ", this.#page.texts.fill(this.#element.dataset[what] ?? what, values));
    this.#element.prepend(item);
    if (this.#element.childElementCount > 4) this.#element.lastElementChild?.remove();
  }
}

export class PodPanel {
  #page;
  #panel = byId("pods");
  #list = part(this.#panel, "ul");
  #watching = byId("watching");
  /** @type {Map<string, Pod> | undefined} */
  #pods;
  #isRedisAway = false;

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
    const { bus, happenings, storage } = page;
    bus.on("pods", (event) => this.#show(event));
    bus.on("moved", ({ from, to, seconds }) =>
      happenings.add(from === to ? "back" : "moved", { from, to, seconds }),
    );
    if (this.#panel instanceof HTMLDetailsElement) this.#open(this.#panel, storage);
    setInterval(() => document.hidden || this.#showAges(), 5_000);
  }

  /** @param {HTMLDetailsElement} panel @param {Page["storage"]} storage */
  #open(panel, storage) {
    const choice = storage["guestbook.pods"];
    panel.open = choice
      ? choice === "open"
      : matchMedia("(min-width: 56rem)").matches || "lab" in this.#page.main.dataset;
    part(panel, "summary").addEventListener(
      "click",
      () => (storage["guestbook.pods"] = panel.open ? "closed" : "open"),
    );
  }

  /** @param {PodsEvent} event */
  #show({ pods, streams, pod: serving, redis }) {
    const watching = this.#page.texts.fill(this.#watching.dataset.watching, { n: streams });
    this.#watching.textContent = `${watching}, ${this.#page.texts.count(this.#watching, pods.length)}`;
    if (serving) this.#page.main.dataset.pod = serving;
    const name = find("pod");
    if (name) {
      name.textContent = this.#page.main.dataset.pod ?? "";
      name.dataset.hue = hueOf(name.textContent);
    }
    if (this.#isRedisAway !== (redis === "away")) {
      this.#isRedisAway = !this.#isRedisAway;
      this.#page.happenings.add(this.#isRedisAway ? "redisAway" : "redisBack");
    }
    if (this.#pods) this.#addChanges(pods, this.#pods);
    this.#pods = new Map(pods.map((pod) => [keyOf(pod), pod]));
    for (const item of this.#items()) if (!this.#pods.has(item.dataset.key ?? "")) item.remove();
    pods.forEach((pod, position) => this.#showPod(pod, position));
  }

  /** @param {Pod[]} pods @param {Map<string, Pod>} known */
  #addChanges(pods, known) {
    const names = new Set(pods.map(({ name }) => name));
    const namesBefore = new Set([...known.values()].map(({ name }) => name));
    for (const { name } of known.values())
      if (!names.has(name)) this.#page.happenings.add("gone", { pod: name });
    for (const pod of pods) {
      const { name, version, state } = pod;
      const before = known.get(keyOf(pod));
      if (!before)
        this.#page.happenings.add(namesBefore.has(name) ? "restarted" : "come", { pod: name, version });
      else if (before.state !== state && state === "draining")
        this.#page.happenings.add("draining", { pod: name });
    }
  }

  #items() {
    return /** @type {HTMLElement[]} */ ([...this.#list.children]);
  }

  /** @param {Pod} pod */
  #find(pod) {
    return this.#items().find(({ dataset }) => dataset.key === keyOf(pod));
  }

  /** Elements stay, so that the focus and an open menu do. @param {Pod} pod @param {number} position */
  #showPod(pod, position) {
    const item = this.#find(pod) ?? this.#createItem(pod);
    const there = this.#list.children[position];
    if (there !== item) this.#list.insertBefore(item, there ?? null);
    item.dataset.state = pod.state;
    part(item, ".facts").textContent = this.#factsOf(pod);
    part(item, ".here").hidden = pod.name !== this.#page.main.dataset.pod;
    part(item, ".condition").textContent = [pod.state, ...(pod.lab ?? [])]
      .filter((state) => state !== "ready")
      .map(
        (state) => this.#list.dataset[state.replace(/-(.)/g, (_, letter) => letter.toUpperCase())] ?? state,
      )
      .join(", ");
  }

  /** @param {Pod} pod */
  #createItem(pod) {
    const item = cloneTemplate("pod-item");
    item.dataset.key = keyOf(pod);
    item.dataset.pod = part(item, ".name").textContent = pod.name;
    item.dataset.hue = hueOf(pod.name);
    const menu = this.#page.texts.fill(this.#list.dataset.menu, { pod: pod.name });
    item.querySelector(".lab summary")?.setAttribute("aria-label", menu);
    return item;
  }

  /** @param {Pod} pod */
  #factsOf({ version, started_at, streams }) {
    const watching = this.#page.texts.fill(this.#watching.dataset.watching, { n: streams });
    return [`v${version}`, this.#page.texts.age(new Date(started_at)), watching].join(" · ");
  }

  #showAges() {
    for (const pod of this.#pods?.values() ?? []) {
      const item = this.#find(pod);
      if (item) part(item, ".facts").textContent = this.#factsOf(pod);
    }
  }
}
