import { create, main, part } from "../browser.js";
import { groupByVersion, hueOf, keyOf } from "../pods.js";
import { isTroubled, showAll } from "./items.js";

const FEW = 6; // of one version: the lines show as much

function createRow() {
  const tiles = create("div");
  tiles.ariaHidden = "true"; // the lines have it in words
  return create("div", create("p"), tiles);
}

/** @param {HTMLElement} tile @param {Pod} pod */
function showTile(tile, pod) {
  tile.dataset.hue = hueOf(pod.name);
  tile.title = pod.name;
  tile.classList.toggle("serving", pod.name === main.dataset.pod);
  tile.classList.toggle("troubled", isTroubled(pod));
  tile.classList.toggle("draining", pod.state === "draining");
}

/** Draw a tile for each pod, in a row for each version. @param {HTMLElement} element @param {Pod[]} pods */
export function showTiles(element, pods) {
  const groups = groupByVersion(pods);
  const isWall = main.dataset.view === "wall";
  element.hidden = !isWall && groups.length === 1 && pods.length <= FEW;
  element.style.setProperty("--pods", String(pods.length));
  const versionOf = (/** @type {[string, Pod[]]} */ [version]) => version;
  showAll(element, groups, versionOf, createRow, (row, [version, group]) => {
    part(row, "p").textContent = `v${version}\xa0×\xa0${group.length}`;
    showAll(part(row, "div"), group, keyOf, () => create("i"), showTile);
  });
}
