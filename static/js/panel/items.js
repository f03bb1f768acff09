import { keyOf } from "../pods.js";

/** Those that do not run as they should. @param {Pod} pod */
export const isTroubled = ({ state, lab = [] }) => state !== "ready" || lab.length > 0;

// Elements stay, so that the focus, an open menu and an animation do.
/** @param {HTMLElement} parent @param {Pod[]} pods @param {(pod: Pod) => HTMLElement} create @param {(item: HTMLElement, pod: Pod) => void} update */
export function showAll(parent, pods, create, update) {
  const keys = new Set(pods.map(keyOf));
  /** @type {Map<string, HTMLElement>} */
  const known = new Map();
  for (const item of /** @type {HTMLElement[]} */ ([...parent.children])) {
    const { key = "" } = item.dataset;
    if (keys.has(key)) known.set(key, item);
    else item.remove();
  }
  pods.forEach((pod, position) => {
    const item = known.get(keyOf(pod)) ?? create(pod);
    item.dataset.key = keyOf(pod);
    update(item, pod);
    const there = parent.children[position];
    if (there !== item) parent.insertBefore(item, there ?? null);
  });
}
