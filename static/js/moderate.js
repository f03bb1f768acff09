import { byId, cloneTemplate, find, part } from "./browser.js";
import { Decisions, HeldStream, Session } from "./held.js";
import { openKeySwitch } from "./keys.js";
import { Switches } from "./switches.js";

const SHOWN = 50; // of those that wait, the oldest
const SURPRISE = 700; // no click counts just after the list has moved by itself
/** @type {Record<string, Record<string, What>>} */
const KEYS = {
  held: { a: "approve", r: "refuse", b: "ban" },
  messages: { d: "delete", b: "ban" },
};

/** The page of moderators: what waits, what is published, and what is decided about it. */
export class Desk {
  #page;
  #session = new Session((status) => this.#signOut(status));
  #stream;
  #decisions;
  #switches;
  #keys;
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
  #wasIn = false;

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
    this.#keys = openKeySwitch(page.storage);
    this.#decisions = new Decisions(this.#session, {
      changed: () => this.#showUndo(),
      failed: (unsent) => this.#showTrouble(unsent),
      sent: (decision, isDone) => this.#sent(decision, isDone),
    });
    for (const { id, what } of this.#decisions.waiting) if (what !== "ban") this.#decided.add(id);
    this.#stream = new HeldStream(this.#session, {
      held: (messages, waiting) => this.#showHeld(messages, waiting),
      lost: () => this.#showTrouble(this.#decisions.waiting.length),
    });
    this.#switches = new Switches(page, this.#session, {
      failed: () => this.#showTrouble(),
      switched: () => this.#render(),
    });
    this.#listen();
    if (this.#session.token) this.#signIn();
    else byId("admin-token").focus();
  }

  #listen() {
    const { bus, list } = this.#page;
    byId("sign-in").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = /** @type {HTMLInputElement} */ (byId("admin-token"));
      this.#session.token = field.value.trim();
      this.#wasIn = false;
      if (this.#session.token) this.#signIn();
      else this.#signOut(401);
    });
    // Sent before, the form would load the page again without the token.
    /** @type {HTMLButtonElement} */ (part(byId("sign-in"), "button")).disabled = false;
    byId("sign-out").addEventListener("click", () => {
      this.#decisions.flush();
      this.#signOut();
    });
    this.#page.main.addEventListener("click", ({ target }) =>
      this.#click(/** @type {HTMLElement} */ (target)),
    );
    document.addEventListener("keydown", (event) => this.#press(event));
    bus.on("edited", () => this.#equip());
    new MutationObserver(() => this.#equip()).observe(list.element, { childList: true });
    this.#equip();
    const isWide = matchMedia("(min-width: 56rem)").matches;
    /** @type {HTMLDetailsElement} */ (byId("desk")).open = isWide;
    const wake = () => {
      if (document.hidden || !this.#page.main.dataset.signedIn) return;
      this.#stream.start();
      this.#decisions.resume();
    };
    addEventListener("online", wake);
    document.addEventListener("visibilitychange", wake);
    addEventListener("pagehide", () => this.#stream.stop());
    addEventListener("pageshow", ({ persisted }) => persisted && wake());
  }

  // The token

  async #signIn() {
    const answer = await this.#session.call("GET", "/control");
    const problem = byId("sign-in-problem");
    if (answer?.isRefused) return;
    if (!answer?.ok) {
      problem.textContent = problem.dataset.unreachable ?? "";
      // Of a page that was reloaded meanwhile.
      setTimeout(() => this.#session.token && !this.#wasIn && this.#signIn(), 3_000);
      return;
    }
    problem.textContent = "";
    /** @type {HTMLInputElement} */ (byId("admin-token")).value = "";
    this.#wasIn = true;
    this.#page.main.dataset.signedIn = "true";
    this.#switches.show(answer.body);
    this.#stream.start();
    this.#decisions.resume();
    byId("messages-title").focus({ preventScroll: true });
  }

  /** Decisions stay until there is a token that is accepted. @param {number} [status] */
  #signOut(status) {
    const { dataset } = byId("sign-in-problem");
    const why = status === 403 ? dataset.off : this.#wasIn ? dataset.expired : dataset.wrong;
    byId("sign-in-problem").textContent = (status && why) || "";
    this.#session.token = "";
    this.#wasIn = false;
    this.#stream.stop();
    delete this.#page.main.dataset.signedIn;
    byId("admin-token").focus();
  }

  // The lists

  get #list() {
    return this.#bar.dataset.list === "held" ? this.#queue : this.#page.list.element;
  }

  /** @returns {HTMLElement | null} */
  get #current() {
    return (
      this.#list.querySelector(".entry[aria-current]") ?? this.#list.querySelector(".entry:not([hidden])")
    );
  }

  /** @param {Message[]} messages @param {number} waiting */
  #showHeld(messages, waiting) {
    this.#held = messages;
    this.#waiting = waiting;
    this.#showTrouble(0);
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
      const item = this.#page.list.createItem(message);
      item.append(cloneTemplate("decide"));
      this.#queue.insertBefore(item, there ?? null);
    });
    const { children } = this.#queue;
    if (place >= 0 && !this.#queue.querySelector("[aria-current]"))
      this.#select(children[Math.min(place, children.length - 1)]);
    const count = Math.max(open.length, this.#waiting - (this.#held.length - open.length));
    const { texts } = this.#page;
    byId("count").textContent = count ? texts.numbers.format(count) : "";
    byId("more").textContent = count > shown.length ? texts.count(byId("more"), count - shown.length) : "";
    const done = part(byId("queue"), ".done");
    done.hidden = count > 0;
    done.textContent = (this.#switches.isModerated ? done.dataset.before : done.dataset.off) ?? "";
    document.title = count ? `(${texts.numbers.format(count)}) ${this.#title}` : this.#title;
    if (!this.#queue.querySelector("[aria-current]")) this.#select(children[0]);
  }

  /** The buttons of published messages. */
  #equip() {
    for (const item of this.#page.list.element.querySelectorAll(".entry:not(:has(.decide))"))
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
    const item = /** @type {HTMLElement | null} */ (target.closest(".pages .entry"));
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
    if (target.matches("input, select, textarea") || !this.#page.main.dataset.signedIn) return;
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
    this.#showUndo();
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
    this.#showUndo();
  }

  /** @param {Decision} decision @param {boolean} isDone */
  #sent({ what, id, text }, isDone) {
    this.#showUndo();
    this.#showTrouble(0);
    if (what === "ban") this.#switches.showBans();
    if (!isDone) this.#say(this.#notice.dataset[what === "ban" ? "noAddress" : "gone"], text);
    else if (what === "delete") this.#page.bus.emit("deleted", { id });
  }

  /** For screen readers with the next one, too. @param {string} [words] */
  #say(words, text = "") {
    const { texts } = this.#page;
    const current = this.#current;
    const next = document.createElement("span");
    next.className = "next";
    if (current && this.#list === this.#queue)
      next.textContent = texts.fill(` ${this.#notice.dataset.next}`, {
        author: part(current, ".author").textContent,
        text: part(current, ".text").textContent,
      });
    this.#notice.replaceChildren(texts.fill(words, { text }), next);
  }

  #showUndo() {
    byId("undo").hidden = !this.#decisions.canUndo;
  }

  /** @param {number} [unsent] decisions */
  #showTrouble(unsent) {
    const trouble = byId("trouble");
    const isLost = unsent !== 0 || undefined;
    trouble.textContent = isLost
      ? [trouble.dataset.lost, unsent && this.#page.texts.count(trouble, unsent)].filter(Boolean).join(" ")
      : "";
  }

  /** @param {string} name */
  #open(name) {
    this.#bar.dataset.list = name;
    byId("queue").hidden = name !== "held";
    byId("published").hidden = name === "held";
    for (const button of this.#page.main.querySelectorAll(".views button"))
      button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.list === name));
    this.#notBefore = 0;
    this.#select(this.#current);
  }
}
