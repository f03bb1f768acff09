import { part } from "../browser.js";
import { groupByVersion } from "../pods.js";
import { hueOf } from "../text.js";
import { isTroubled, showAll } from "./items.js";

const FEW = 6; // of one version: the lines show as much

/** A tile a pod, one row of them a version. */
export class Tiles {
  #page;
  #element;

  /** @param {Page} page @param {HTMLElement} element */
  constructor(page, element) {
    this.#page = page;
    this.#element = element;
  }

  /** @param {PodsEvent} event */
  show({ pods }) {
    const groups = groupByVersion(pods);
    const isWall = this.#page.main.dataset.view === "wall";
    this.#element.hidden = !isWall && groups.length === 1 && pods.length <= FEW;
    this.#element.style.setProperty("--pods", String(pods.length));
    const rows = /** @type {HTMLElement[]} */ ([...this.#element.children]);
    const kept = groups.map(([version, group]) => {
      const row = rows.find(({ dataset }) => dataset.version === version) ?? this.#createRow(version);
      part(row, "p").textContent = `v${version}\xa0×\xa0${group.length}`;
      showAll(part(row, "div"), group, this.#createTile, (tile, pod) => this.#showTile(tile, pod));
      return row;
    });
    for (const row of rows) if (!kept.includes(row)) row.remove();
    // Moved only where it has to be: an element that moves begins its animation again.
    kept.forEach((row, position) => {
      const there = this.#element.children[position];
      if (there !== row) this.#element.insertBefore(row, there ?? null);
    });
  }

  /** @param {string} version */
  #createRow(version) {
    const row = document.createElement("div");
    row.dataset.version = version;
    const tiles = document.createElement("div");
    tiles.ariaHidden = "true"; // the lines have it in words
    row.append(document.createElement("p"), tiles);
    return row;
  }

  /** @param {Pod} pod */
  #createTile({ name }) {
    const tile = document.createElement("i");
    tile.dataset.hue = hueOf(name);
    tile.title = name;
    return tile;
  }

  /** @param {HTMLElement} tile @param {Pod} pod */
  #showTile(tile, pod) {
    tile.classList.toggle("serving", pod.name === this.#page.main.dataset.pod);
    tile.classList.toggle("troubled", isTroubled(pod));
    tile.classList.toggle("draining", pod.state === "draining");
  }
}
