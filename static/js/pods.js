import { bus, byId, create, find, main, part, storage } from "./browser.js";
import { clock, count, fill } from "./text.js";

const KEPT = 100;

/** Two hexadecimal digits, one for each of a pod's two colours: the low byte of its name's FNV-1a. @param {string} name */
export function hueOf(name) {
  let hash = 2166136261;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 16777619);
  return (hash & 255).toString(16).padStart(2, "0");
}

/** Give an element a pod's colours. @param {HTMLElement} element @param {string} name */
export function showPod(element, name) {
  element.textContent = name;
  element.dataset.hue = hueOf(name);
}

/** A restarted pod may be listed together with its predecessor. @param {Pod} pod */
export const keyOf = ({ name, started_at }) => `${name} ${started_at}`;

/** Group pods by version, newest last, by their first start: a restart of an old version does not matter. @param {Pod[]} pods */
export function groupByVersion(pods) {
  /** @type {Map<string, Pod[]>} */
  const groups = new Map();
  for (const pod of pods) groups.set(pod.version, [...(groups.get(pod.version) ?? []), pod]);
  const start = (/** @type {Pod[]} */ group) => group.map((pod) => pod.started_at).sort()[0];
  return [...groups].sort(([, one], [, other]) => (start(one) < start(other) ? -1 : 1));
}

/** How many are online; guests see nothing more. @param {PodsEvent} event */
export function showWatching({ pods, streams }) {
  const watching = byId("watching");
  const online = fill(watching.dataset.watching, { n: streams });
  const versions = groupByVersion(pods).map(([version, group]) => `v${version}\xa0×\xa0${group.length}`);
  const byVersion = versions.length > 1 ? ` (${versions.join(" → ")})` : "";
  watching.textContent = watching.dataset.other
    ? `${online}, ${count(watching, pods.length)}${byVersion}`
    : online;
}

/** The list of what has happened to pods, latest first. */
export class Happenings {
  #element = byId("happenings");
  /** @type {PodsEvent | undefined} */
  #last;

  constructor() {
    bus.on("pods", (event) => {
      this.#compare(event, this.#last ?? { ...event, redis: undefined });
      this.#last = event;
    });
    bus.on("moved", ({ from, to, seconds }) =>
      this.add(from === to ? "back" : "moved", { from, to, seconds }),
    );
  }

  /** @param {string} what @param {object} [values] */
  add(what, values = {}) {
    const words = fill(this.#element.dataset[what] ?? what, values);
    const item = create("li", create("time", clock.format()), " ", words);
    item.dataset.what = what;
    this.#element.prepend(item);
    if (this.#element.childElementCount > KEPT) this.#element.lastElementChild?.remove();
  }

  /** @param {PodsEvent} event @param {PodsEvent} last */
  #compare({ pods, redis }, last) {
    const isAway = redis === "away";
    if (isAway !== (last.redis === "away")) this.add(isAway ? "redisAway" : "redisBack");
    const names = new Set(pods.map(({ name }) => name));
    const lastNames = new Set(last.pods.map(({ name }) => name));
    for (const pod of lastNames) if (!names.has(pod)) this.add("gone", { pod });
    for (const pod of pods) {
      const { name, version, state } = pod;
      const before = last.pods.find((other) => keyOf(other) === keyOf(pod));
      if (!before) this.add(lastNames.has(name) ? "restarted" : "come", { pod: name, version });
      else if (before.state !== state && state === "draining") this.add("draining", { pod: name });
    }
  }
}

/** The panel's summary; its content is loaded when it is open. */
export function openPodPanel() {
  const panel = byId("pods");
  let isLoading = false;
  const load = async () => {
    if (isLoading) return;
    isLoading = true;
    try {
      (await import("./panel/panel.js")).start();
    } catch {
      isLoading = false; // again when it is opened again
    }
  };
  bus.on("pods", () => {
    const serving = find("pod");
    if (serving) showPod(serving, main.dataset.pod ?? "");
  });
  if (!(panel instanceof HTMLDetailsElement)) return void load();
  panel.addEventListener("toggle", () => panel.open && load());
  const choice = storage["guestbook.pods"];
  panel.open = choice ? choice === "open" : matchMedia("(min-width: 56rem)").matches || "lab" in main.dataset;
  part(panel, "summary").addEventListener("click", () => {
    storage["guestbook.pods"] = panel.open ? "closed" : "open";
  });
}
