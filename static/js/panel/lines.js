import { byId, cloneTemplate, part } from "../browser.js";
import { hueOf } from "../text.js";
import { isTroubled, showAll } from "./items.js";

const FEW = 6; // so many are shown one by one
const TROUBLED = 4; // and so many of those that do not run as they should, beside the serving one

/** A line a pod: the serving one, the troubled ones, the others, which are folded where they are many. */
export class Lines {
  #page;
  #list = part(byId("field"), "ul");
  #fold = part(byId("field"), ".fold");
  /** @type {Pod[]} */
  #pods = [];
  #isFolded = true;

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
    this.#fold.onclick = () => {
      this.#isFolded = !this.#isFolded;
      this.#showLines();
    };
    setInterval(() => document.hidden || this.#showLines(), 5_000);
  }

  /** @param {PodsEvent} event */
  show({ pods }) {
    this.#pods = pods;
    this.#showLines();
  }

  /** @param {Pod} pod */
  #isServing({ name }) {
    return name === this.#page.main.dataset.pod;
  }

  #showLines() {
    const serving = this.#pods.filter((pod) => this.#isServing(pod));
    const others = this.#pods.filter((pod) => !this.#isServing(pod));
    const troubled = others.filter(isTroubled);
    const isLong = this.#pods.length > FEW;
    const all = [...serving, ...troubled, ...others.filter((pod) => !isTroubled(pod))];
    const shown = isLong && this.#isFolded ? [...serving, ...troubled.slice(0, TROUBLED)] : all;
    this.#fold.hidden = !isLong;
    this.#fold.textContent = this.#page.texts.fill(this.#fold.dataset.all, { n: this.#pods.length });
    this.#fold.setAttribute("aria-expanded", String(!this.#isFolded));
    this.#list.tabIndex = isLong && !this.#isFolded ? 0 : -1; // it scrolls then
    showAll(
      this.#list,
      shown,
      (pod) => this.#createItem(pod),
      (item, pod) => this.#showPod(item, pod),
    );
  }

  /** @param {HTMLElement} item @param {Pod} pod */
  #showPod(item, pod) {
    item.dataset.state = pod.state;
    part(item, ".facts").textContent = this.#factsOf(pod);
    part(item, ".here").hidden = !this.#isServing(pod);
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
    item.dataset.pod = part(item, ".name").textContent = pod.name;
    item.dataset.hue = hueOf(pod.name);
    const menu = this.#page.texts.fill(this.#list.dataset.menu, { pod: pod.name });
    item.querySelector(".lab summary")?.setAttribute("aria-label", menu);
    return item;
  }

  /** @param {Pod} pod */
  #factsOf({ version, started_at, streams }) {
    const watching = this.#page.texts.fill(byId("watching").dataset.watching, { n: streams });
    return [`v${version}`, this.#page.texts.age(new Date(started_at)), watching].join(" · ");
  }
}
