/** Those that do not run as they should. @param {Pod} pod */
export const isTroubled = ({ state, lab = [] }) => state !== "ready" || lab.length > 0;

// Elements stay, so that the focus, an open menu and an animation do.
/** @template T @param {HTMLElement} parent @param {T[]} items @param {(item: T) => string} keyOf @param {() => HTMLElement} create @param {(element: HTMLElement, item: T) => void} update */
export function showAll(parent, items, keyOf, create, update) {
  const before = /** @type {HTMLElement[]} */ ([...parent.children]);
  const elements = items.map((item) => {
    const element = before.find(({ dataset }) => dataset.key === keyOf(item)) ?? create();
    element.dataset.key = keyOf(item);
    update(element, item);
    return element;
  });
  for (const element of before) if (!elements.includes(element)) element.remove();
  elements.forEach((element, position) => {
    const there = parent.children[position];
    if (there !== element) parent.insertBefore(element, there ?? null);
  });
}
