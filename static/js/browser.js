export const main = /** @type {HTMLElement} */ (document.querySelector("main"));

/** @param {string} id */
export const find = (id) => document.getElementById(id);

/** @param {string} id */
export const byId = (id) => /** @type {HTMLElement} */ (find(id));

/** @param {string} id */
export const inputById = (id) => /** @type {HTMLInputElement} */ (find(id));

/** @param {ParentNode} parent @param {string} selector */
export const part = (parent, selector) => /** @type {HTMLElement} */ (parent.querySelector(selector));

/** @param {Element} target @param {string} selector */
export const closest = (target, selector) => /** @type {HTMLElement | null} */ (target.closest(selector));

/** @param {string} id */
export const cloneTemplate = (id) =>
  /** @type {HTMLElement} */ (
    /** @type {HTMLTemplateElement} */ (find(id)).content.firstElementChild?.cloneNode(true)
  );

/** @template {keyof HTMLElementTagNameMap} Tag @param {Tag} tag @param {(string | Node)[]} children */
export function create(tag, ...children) {
  const element = document.createElement(tag);
  element.append(...children);
  return element;
}

/** @param {HTMLElement} element @param {(target: HTMLElement) => void} act */
export const onClick = (element, act) =>
  element.addEventListener("click", ({ target }) => act(/** @type {HTMLElement} */ (target)));

/** @param {() => void} act @param {number} ms */
export const everyWhileVisible = (act, ms) => setInterval(() => document.hidden || act(), ms);

/** Return a storage; if the browser refuses it, one that lasts as long as the page. @param {"localStorage" | "sessionStorage"} name */
function open(name) {
  try {
    window[name]["guestbook.probe"] = "";
    delete window[name]["guestbook.probe"];
    return /** @type {Record<string, string>} */ (window[name]);
  } catch {
    return {};
  }
}

export const storage = open("localStorage");
export const tabStorage = open("sessionStorage");

/** Store a value, if there is room. @param {Record<string, string>} storage @param {string} name @param {string} value */
export function store(storage, name, value) {
  try {
    storage[name] = value;
    return true;
  } catch {
    return false;
  }
}

/** @param {string} [text] */
export function parse(text = "") {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** An EventTarget with types: types.d.ts has all events and their details. */
class Bus extends EventTarget {
  /** @template {keyof PageEvents} Name @param {Name} name @param {PageEvents[Name]} detail */
  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** @template {keyof PageEvents} Name @param {Name} name @param {(detail: PageEvents[Name]) => void} listener */
  on(name, listener) {
    this.addEventListener(name, (event) => listener(/** @type {CustomEvent} */ (event).detail));
  }
}

export const bus = new Bus();
