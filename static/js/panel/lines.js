import { byId, cloneTemplate, everyWhileVisible, main, part } from "../browser.js";
import { hueOf, keyOf } from "../pods.js";
import { age, fill } from "../text.js";
import { isTroubled, showAll } from "./items.js";

const FEW = 6; // so many are shown one by one
const TROUBLED = 4; // and so many of those that do not run as they should, beside the serving one

/** @param {Pod} pod */
const isServing = ({ name }) => name === main.dataset.pod;

/** A line for each pod: the serving one, the troubled ones, then the others, folded if they are many. */
export class Lines {
  #list = part(byId("field"), "ul");
  #fold = part(byId("field"), ".fold");
  /** @type {Pod[]} */
  #pods = [];
  #isFolded = true;

  constructor() {
    this.#fold.onclick = () => {
      this.#isFolded = !this.#isFolded;
      this.show();
    };
    everyWhileVisible(() => this.show(), 5_000); // how old they are
  }

  show(pods = this.#pods) {
    this.#pods = pods;
    const others = pods.filter((pod) => !isServing(pod));
    const serving = pods.filter(isServing);
    const troubled = others.filter(isTroubled);
    const isLong = pods.length > FEW;
    const all = [...serving, ...troubled, ...others.filter((pod) => !isTroubled(pod))];
    const shown = isLong && this.#isFolded ? [...serving, ...troubled.slice(0, TROUBLED)] : all;
    this.#fold.hidden = !isLong;
    this.#fold.textContent = fill(this.#fold.dataset.all, { n: pods.length });
    this.#fold.setAttribute("aria-expanded", String(!this.#isFolded));
    this.#list.tabIndex = isLong && !this.#isFolded ? 0 : -1; // it scrolls then
    const create = () => cloneTemplate("pod-item");
    showAll(this.#list, shown, keyOf, create, (line, pod) => this.#showLine(line, pod));
  }

  /** @param {HTMLElement} line @param {Pod} pod */
  #showLine(line, pod) {
    const { name, state, version, started_at, streams, lab = [] } = pod;
    const words = this.#list.dataset;
    line.dataset.pod = part(line, ".name").textContent = name;
    line.dataset.hue = hueOf(name);
    line.dataset.state = state;
    line.querySelector(".lab summary")?.setAttribute("aria-label", fill(words.menu, { pod: name }));
    const watching = fill(byId("watching").dataset.watching, { n: streams });
    part(line, ".facts").textContent = [`v${version}`, age(started_at), watching].join(" · ");
    part(line, ".here").hidden = !isServing(pod);
    part(line, ".condition").textContent = [state, ...lab]
      .filter((condition) => condition !== "ready")
      .map((condition) => words[condition.replace(/-(.)/g, (_, c) => c.toUpperCase())] ?? condition)
      .join(", ");
  }
}
