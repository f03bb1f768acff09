import { bus, byId, create } from "../browser.js";
import { timeline } from "../live.js";
import { Lines } from "./lines.js";
import { Picture } from "./picture.js";
import { showTiles } from "./tiles.js";

function loadStyle() {
  const link = create("link");
  link.rel = "stylesheet";
  link.href = new URL("../../panel.css", import.meta.url).href;
  document.head.append(link);
  return new Promise((resolve) => (link.onload = link.onerror = resolve));
}

export async function start() {
  await loadStyle();
  const field = byId("field");
  const tiles = create("div");
  tiles.className = "tiles";
  const picture = new Picture();
  const lines = new Lines();
  field.prepend(tiles, picture.element);
  /** @param {PodsEvent} event */
  const show = (event) => {
    showTiles(tiles, event.pods);
    picture.show(event);
    lines.show(event.pods);
  };
  bus.on("pods", show);
  if (timeline.lastPods) show(timeline.lastPods.data);
  field.hidden = false;
}
