import {
  bus,
  byId,
  cloneTemplate,
  closest,
  create,
  find,
  inputById,
  main,
  onClick,
  part,
} from "../browser.js";
import { createEntry, list } from "../list.js";
import { count, fill, numbers } from "../text.js";
import { openKeySwitch } from "../wall/keys.js";
import { Decisions } from "./decisions.js";
import { HeldStream } from "./held.js";
import { session } from "./session.js";
import { Switches } from "./switches.js";

const SHOWN = 50; // of those that wait, the oldest
const SURPRISE = 700; // no click counts just after the list has moved by itself
/** @type {Record<string, Record<string, What>>} */
const KEYS = {
  held: { a: "approve", r: "refuse", b: "ban" },
  messages: { d: "delete", b: "ban" },
};

/** The moderators' page: waiting and published messages, and decisions. */
export class Desk {
  #stream = new HeldStream();
  #decisions = new Decisions();
  #switches = new Switches();
  #keys = openKeySwitch();
  #bar = byId("bar");
  #notice = part(this.#bar, "[role=status][data-approve]");
  #queue = byId("held");
  #title = document.title;
  /** @type {Message[]} */
  #held = [];
  #waiting = 0;
  /** Decided here. @type {Set<string>} */
  #decided = new Set();
  #notBefore = 0;

  constructor() {
    for (const { id, what } of this.#decisions.waiting) if (what !== "ban") this.#decided.add(id);
    this.#listen();
    this.#equip();
    byId("desk").toggleAttribute("open", matchMedia("(min-width: 56rem)").matches);
    session.start();
  }

  #listen() {
    bus.on("signedIn", (control) => {
      this.#switches.show(control);
      this.#resume();
      byId("messages-title").focus({ preventScroll: true });
    });
    bus.on("signedOut", () => this.#stream.stop());
    bus.on("reached", (isReached) => this.#showTrouble(isReached));
    bus.on("held", (queue) => this.#showHeld(queue));
    bus.on("undoable", (isUndoable) => (byId("undo").hidden = !isUndoable));
    bus.on("decided", (decided) => this.#finish(decided));
    bus.on("switched", () => this.#render());
    bus.on("edited", () => this.#equip());
    new MutationObserver(() => this.#equip()).observe(list.element, { childList: true });
    byId("sign-out").addEventListener("click", () => {
      this.#decisions.flush();
      session.signOut();
    });
    onClick(main, (target) => this.#click(target));
    document.addEventListener("keydown", (event) => this.#press(event));
    const wake = () => !document.hidden && session.isSignedIn && this.#resume();
    addEventListener("online", wake);
    document.addEventListener("visibilitychange", wake);
    addEventListener("pagehide", () => this.#stream.stop());
    addEventListener("pageshow", ({ persisted }) => persisted && wake());
  }

  #resume() {
    this.#stream.start();
    this.#decisions.resume();
  }

  // The lists

  get #list() {
    return this.#bar.dataset.list === "held" ? this.#queue : list.element;
  }

  /** @returns {HTMLElement | null} */
  get #current() {
    return (
      this.#list.querySelector(".entry[aria-current]") ?? this.#list.querySelector(".entry:not([hidden])")
    );
  }

  /** @param {PageEvents["held"]} queue */
  #showHeld({ messages, waiting }) {
    this.#held = messages;
    this.#waiting = waiting;
    this.#showTrouble(true);
    const current = this.#queue.querySelector("[aria-current]");
    this.#render();
    if (!current || current.isConnected) return;
    this.#notBefore = Date.now() + SURPRISE;
    this.#say(this.#notice.dataset.gone);
  }

  #render() {
    const open = this.#held.filter(({ id }) => !this.#decided.has(id));
    const shown = open.slice(0, SHOWN);
    const ids = new Set(shown.map(({ id }) => id));
    const place = [...this.#queue.children].findIndex((item) => item.hasAttribute("aria-current"));
    for (const item of [...this.#queue.children]) if (!ids.has(item.id)) item.remove();
    shown.forEach((message, position) => {
      const there = this.#queue.children[position];
      if (there?.id === message.id) return;
      const item = createEntry(message);
      item.append(cloneTemplate("decide"));
      this.#queue.insertBefore(item, there ?? null);
    });
    const { children } = this.#queue;
    if (place >= 0 && !this.#queue.querySelector("[aria-current]"))
      this.#select(children[Math.min(place, children.length - 1)]);
    const total = Math.max(open.length, this.#waiting - (this.#held.length - open.length));
    const rest = total - shown.length;
    byId("count").textContent = total ? numbers.format(total) : "";
    byId("more").textContent = rest > 0 ? count(byId("more"), rest) : "";
    const done = part(byId("queue"), ".done");
    done.hidden = total > 0;
    done.textContent = (inputById("moderation").checked ? done.dataset.before : done.dataset.off) ?? "";
    document.title = total ? `(${numbers.format(total)}) ${this.#title}` : this.#title;
    if (!this.#queue.querySelector("[aria-current]")) this.#select(children[0]);
  }

  /** The buttons of published messages. */
  #equip() {
    for (const item of list.element.querySelectorAll(".entry:not(:has(.decide))"))
      item.append(cloneTemplate("decide"));
  }

  /** @param {Element | null | undefined} item */
  #select(item, hasFocus = false) {
    if (!(item instanceof HTMLElement)) return;
    for (const other of item.parentElement?.querySelectorAll("[aria-current]") ?? [])
      other.removeAttribute("aria-current");
    item.setAttribute("aria-current", "true");
    for (const button of this.#bar.querySelectorAll("[data-do]"))
      button.setAttribute("aria-describedby", item.id);
    if (!hasFocus) return;
    item.tabIndex = -1;
    item.focus({ preventScroll: true });
    item.scrollIntoView({ block: "nearest" });
  }

  /** @param {1 | -1} step */
  #step(step) {
    const items = [...this.#list.querySelectorAll(".entry:not([hidden])")];
    return items[items.findIndex((item) => item === this.#current) + step];
  }

  // Decisions

  /** @param {HTMLElement} target */
  #click(target) {
    const button = target.closest("button");
    const item = closest(target, ".pages .entry");
    if (button?.id === "undo") this.#undo();
    else if (button?.dataset.list) this.#open(button.dataset.list);
    else if (button?.dataset.network) this.#switches.unban(button.dataset.network);
    else if (button?.dataset.do) this.#decide(/** @type {What} */ (button.dataset.do), item ?? this.#current);
    else if (item && !target.closest("a, summary")) this.#select(item);
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (target.matches("input, select, textarea") || !session.isSignedIn) return;
    if (!this.#keys.checked) return;
    const key = event.key.toLowerCase();
    const what = KEYS[this.#bar.dataset.list ?? ""][key];
    if (key === "z") this.#undo();
    else if (key === "arrowdown" || key === "arrowup")
      this.#select(this.#step(key === "arrowdown" ? 1 : -1), true);
    else if (what) this.#decide(what, this.#current);
    else return;
    event.preventDefault();
  }

  /** @param {What} what @param {HTMLElement | null} item */
  #decide(what, item) {
    if (!item || Date.now() < this.#notBefore) return;
    this.#notBefore = Date.now() + 250; // a double click is one decision
    const text = (part(item, ".text").textContent ?? "").slice(0, 60);
    const seconds = Number(/** @type {HTMLSelectElement} */ (byId("ban-seconds")).value);
    const hasFocus = !this.#bar.contains(document.activeElement);
    this.#decisions.add({ what, id: item.id, text, ...(what === "ban" && { seconds }) });
    if (what !== "ban") {
      this.#select(item);
      const next = this.#step(1) ?? this.#step(-1);
      this.#decided.add(item.id);
      if (next) this.#select(next, hasFocus);
      if (item.parentElement === this.#queue) this.#render();
      else item.hidden = true;
    }
    this.#say(this.#notice.dataset[what], text);
  }

  #undo() {
    const decision = this.#decisions.undo();
    if (!decision) return;
    this.#decided.delete(decision.id);
    const published = find(decision.id);
    if (published) published.hidden = false;
    this.#render();
    this.#select(find(decision.id), true);
    this.#say(this.#notice.dataset.undone, decision.text);
  }

  /** Handle the server's answer to a decision. @param {PageEvents["decided"]} decided */
  #finish({ decision: { what, id, text }, isDone }) {
    this.#showTrouble(true);
    if (what === "ban") this.#switches.showBans();
    if (!isDone) this.#say(this.#notice.dataset[what === "ban" ? "noAddress" : "gone"], text);
    else if (what === "delete") bus.emit("deleted", { id });
  }

  /** For screen readers with the next one, too. @param {string} [words] */
  #say(words, text = "") {
    const current = this.#current;
    const next = create("span");
    next.className = "next";
    if (current && this.#list === this.#queue)
      next.textContent = fill(` ${this.#notice.dataset.next}`, {
        author: part(current, ".author").textContent,
        text: part(current, ".text").textContent,
      });
    this.#notice.replaceChildren(fill(words, { text }), next);
  }

  /** @param {boolean} isReached */
  #showTrouble(isReached) {
    const trouble = byId("trouble");
    const unsent = this.#decisions.waiting.length;
    const words = [trouble.dataset.lost, unsent && count(trouble, unsent)];
    trouble.textContent = isReached ? "" : words.filter(Boolean).join(" ");
  }

  /** @param {string} name */
  #open(name) {
    this.#bar.dataset.list = name;
    byId("queue").hidden = name !== "held";
    byId("published").hidden = name === "held";
    for (const button of main.querySelectorAll(".views button"))
      button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.list === name));
    this.#notBefore = 0;
    this.#select(this.#current);
  }
}
