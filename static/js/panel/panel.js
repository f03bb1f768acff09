import { byId } from "../browser.js";
import { Lines } from "./lines.js";
import { Picture } from "./picture.js";
import { Tiles } from "./tiles.js";

function loadStyle() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("../../panel.css", import.meta.url).href;
  document.head.append(link);
  return new Promise((resolve) => (link.onload = link.onerror = resolve));
}

/** @param {string} name */
function create(name) {
  const element = document.createElement("div");
  element.className = name;
  return element;
}

/** @param {Page} page */
export async function start(page) {
  await loadStyle();
  const field = byId("field");
  const [tiles, picture] = ["tiles", "picture"].map(create);
  field.prepend(tiles, picture);
  const parts = [
    new Tiles(page, tiles),
    new Picture(page, picture, field.dataset.rate ?? ""),
    new Lines(page),
  ];
  /** @param {PodsEvent} event */
  const show = (event) => parts.forEach((part) => part.show(event));
  page.bus.on("pods", show);
  if (page.timeline.lastPods) show(page.timeline.lastPods.data);
  field.hidden = false;
}
