import { bus, byId, closest, main, parse, part, storage, tabStorage } from "../browser.js";
import { list, news } from "../list.js";
import { count } from "../text.js";
import { openKeySwitch } from "./keys.js";

const GLANCE = 20_000; // at what lies below

/** The buttons' data-action. @type {Record<string, string>} */
const KEYS = {
  " ": "pause",
  h: "hide",
  u: "unhide",
  f: "fullScreen",
  "+": "larger",
  "=": "larger",
  "-": "smaller",
  "?": "keys",
};

/** The projector view: one screen, from the newest; and a presenter's keys. */
export class Wall {
  #pages = part(main, ".pages");
  #notice = byId("paused");
  #keys = openKeySwitch();
  /** While the wall is paused. @type {Map<string, Message> | undefined} */
  #waiting;
  #timer = 0;

  constructor() {
    news.isKeptBack = (message) => this.#keepsBack(message);
    bus.on("deleted", ({ id }) => this.#waiting?.delete(id) && this.#showWaiting());
    bus.on("edited", (message) => this.#waiting?.has(message.id) && this.#keepsBack(message));
    for (const id of this.#hidden()) bus.emit("deleted", { id });
    this.#resize(1);
    this.#stayAwake();
    document.addEventListener("visibilitychange", () => document.hidden || this.#stayAwake());
    addEventListener("keydown", (event) => this.#press(event));
    byId("keys").addEventListener("click", (event) => this.#click(event));
    this.#pages.addEventListener("scroll", () => this.#look(), { passive: true });
  }

  /** @param {Message} message */
  #keepsBack(message) {
    this.#waiting?.set(message.id, message);
    this.#showWaiting();
    return Boolean(this.#waiting);
  }

  #showWaiting() {
    this.#notice.hidden = !this.#waiting;
    this.#notice.textContent = count(this.#notice, this.#waiting?.size ?? 0);
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (key === " " && /** @type {Element} */ (target).closest("a, button, input")) return;
    const action = this.#keys.checked ? KEYS[key.toLowerCase()] : undefined;
    if (action) this.#act(action);
    else if (key === "PageDown" || key === "PageUp") this.#turn(key === "PageDown" ? 1 : -1);
    else if (key === "ArrowDown" || key === "ArrowUp") this.#mark(key === "ArrowDown");
    else if (key === "Home" || key === "Escape") this.#goToNewest();
    else return;
    if (key !== "Escape") event.preventDefault(); // it also closes the list of keys
  }

  /** @param {MouseEvent} event */
  #click({ target, detail }) {
    const button = closest(/** @type {Element} */ (target), "button");
    if (!button) return;
    // The next press of the space bar means the wall.
    if (detail) button.blur();
    this.#act(button.dataset.action);
  }

  /** @param {string} [action] */
  #act(action) {
    if (action === "pause") this.#pause();
    else if (action === "hide") this.#hide();
    else if (action === "unhide") this.#unhide();
    else if (action === "fullScreen") this.#fillScreen();
    else if (action === "keys") byId("keys").togglePopover();
    else this.#resize(action === "larger" ? 1.15 : 1 / 1.15);
  }

  #pause() {
    const waiting = this.#waiting;
    this.#waiting = waiting ? undefined : new Map();
    this.#showWaiting();
    for (const message of waiting?.values() ?? []) bus.emit("message", message);
    if (waiting) this.#goToNewest();
  }

  /** @returns {string[]} */
  #hidden() {
    return parse(tabStorage["guestbook.hidden"] ?? "") ?? [];
  }

  /** The marked message, the one at the pointer, or the newest: on this wall alone. */
  #hide() {
    const { element } = list;
    const item = this.#marked() ?? element.querySelector(".entry:hover") ?? element.firstElementChild;
    if (!item) return;
    if (this.#marked()) this.#mark(true);
    tabStorage["guestbook.hidden"] = JSON.stringify([...this.#hidden(), item.id]);
    bus.emit("deleted", { id: item.id });
  }

  #unhide() {
    delete tabStorage["guestbook.hidden"];
    location.reload();
  }

  #fillScreen() {
    const change = document.fullscreenElement
      ? document.exitFullscreen()
      : document.documentElement.requestFullscreen();
    change.catch(() => {}); // the browser's decision
  }

  /** @param {number} factor */
  #resize(factor) {
    const size = (Number(storage["guestbook.type"]) || 1) * factor;
    storage["guestbook.type"] = String(Math.min(3, Math.max(0.5, size)));
    main.style.setProperty("--type", storage["guestbook.type"]);
  }

  #marked() {
    return /** @type {HTMLElement | null} */ (list.element.querySelector(".marked"));
  }

  /** @param {boolean} isNext */
  #mark(isNext) {
    const marked = this.#marked();
    const other = isNext ? marked?.nextElementSibling : marked?.previousElementSibling;
    const item = other ?? marked ?? list.element.firstElementChild;
    marked?.classList.remove("marked");
    item?.classList.add("marked");
    item?.scrollIntoView({ block: "nearest" });
    this.#look();
  }

  /** @param {number} pages */
  #turn(pages) {
    this.#pages.scrollBy({ top: pages * 0.8 * this.#pages.clientHeight });
    this.#look();
  }

  /** A message that someone looks at stays for a while, and while the wall is paused. */
  #look() {
    list.measure();
    clearTimeout(this.#timer);
    if (!this.#waiting) this.#timer = setTimeout(() => this.#goToNewest(), GLANCE);
  }

  #goToNewest() {
    clearTimeout(this.#timer);
    this.#marked()?.classList.remove("marked");
    this.#pages.scrollTop = 0;
  }

  async #stayAwake() {
    try {
      await navigator.wakeLock.request("screen");
    } catch {
      // Plain http, or refused: the screen's own setting holds.
    }
  }
}
