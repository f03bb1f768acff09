import { bus, byId, cloneTemplate, find, main, part } from "./browser.js";
import { isNewer } from "./live.js";
import { showPod } from "./pods.js";
import { getListing } from "./requests.js";
import { condense, count, fill, numbers, serverClock, showTime, writeText } from "./text.js";

const MOST_SHOWN = 1_000;
const ANCHORS = CSS.supports("overflow-anchor", "auto"); // Safari has none
const LINES = 12; // as in Python's renderer.py

/** A message's element, as the server makes it; without an id that of one that is on its way. @param {Message} message */
export function createEntry({ id, author, text, posted_at, edited_at, pod }) {
  const entry = cloneTemplate("message");
  const time = /** @type {HTMLTimeElement} */ (part(entry, "time"));
  if (id) entry.dataset.id = entry.id = id;
  const condensed = condense(text);
  writeText(part(entry, ".text"), condensed);
  if (condensed.split("\n").length <= LINES) part(entry, ".more").remove();
  if (author) part(entry, ".author").textContent = author;
  time.dateTime = posted_at;
  showTime(time);
  const acceptedBy = part(entry, ".pod");
  if (acceptedBy) showPod(acceptedBy, pod); // guests see none
  if (edited_at) entry.dataset.edited = edited_at;
  part(entry, ".edited").hidden = !edited_at;
  return entry;
}

/** Newest first, each message once, older ones on demand. */
class MessageList {
  element = byId("messages");
  isArchive = main.dataset.archive !== undefined;
  isBelow = false;
  /** @type {Set<string>} */
  deleted = new Set();
  #older = /** @type {HTMLAnchorElement | null} */ (find("older"));
  #shownAt = [0, 0, 0];

  constructor() {
    bus.on("deleted", ({ id }) => {
      this.deleted.add(id);
      find(id)?.remove();
    });
    bus.on("edited", (message) => this.#edit(message));
    bus.on("pods", ({ skew }) => this.#adjust(skew));
    bus.on("listing", (listing) => {
      this.#adjust(listing.skew);
      if (!this.isArchive) this.#reconcile(listing);
    });
    if (this.#older) this.#watchEnd(this.#older);
  }

  /** @param {number} skew */
  #adjust(skew) {
    if (!(Math.abs(skew - serverClock.skew) > 5_000)) return; // or unknown
    serverClock.skew = skew;
    this.showTimes();
  }

  measure() {
    this.isBelow = this.element.getBoundingClientRect().top < 0;
  }

  showTimes() {
    for (const time of this.element.querySelectorAll("time")) showTime(time);
  }

  /** @param {string} id */
  knows(id) {
    return this.deleted.has(id) || Boolean(find(id));
  }

  /** The shown message may be newer: a listing is as old as its request. @param {Message} message */
  #edit(message) {
    const item = find(message.id);
    if (!item || (message.edited_at ?? "") <= (item.dataset.edited ?? "")) return;
    item.dataset.edited = message.edited_at;
    item.replaceChildren(...createEntry(message).childNodes);
  }

  /** @param {Message} message */
  show(message, isArriving = true) {
    if (this.isArchive || this.knows(message.id)) return;
    const item = createEntry(message);
    const now = Date.now();
    this.#shownAt.push(now);
    // Above three a second a highlight tells nothing, and costs.
    isArriving &&= now - Number(this.#shownAt.shift()) > 1_000;
    item.classList.toggle("arriving", isArriving);
    this.#insert(item);
    if (isArriving) this.#slide(item);
  }

  /** The others make room: in the reader's eyes, and to the browser, nothing jumps. @param {HTMLElement} item */
  #slide(item) {
    const scrolled = scrollY || this.element.closest(".pages")?.scrollTop; // the browser keeps the place
    const isStill = scrolled || document.hidden || matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (isStill || item !== this.element.firstElementChild) return;
    const { style } = this.element;
    style.transition = "none";
    style.transform = `translateY(${-item.getBoundingClientRect().height}px)`;
    const move = () => (style.transition = style.transform = "");
    requestAnimationFrame(() => requestAnimationFrame(move)); // once it has been drawn there
  }

  /** Not beyond a gap. @param {HTMLElement} item */
  #insert(item) {
    let next = this.element.firstElementChild;
    while (next && !(next.id && isNewer(item.id, next.id))) next = next.nextElementSibling;
    if (!next && this.#older?.hidden === false && this.#lastId) return;
    this.#keepPlace(() => this.element.insertBefore(item, next));
    this.#trim();
  }

  /** @param {() => void} change */
  #keepPlace(change) {
    if (ANCHORS || !this.isBelow) return change();
    const root = document.documentElement;
    const before = root.scrollHeight;
    change();
    scrollBy({ top: root.scrollHeight - before, behavior: "instant" });
  }

  #trim() {
    if (this.isBelow || this.element.childElementCount <= MOST_SHOWN) return;
    while (this.element.childElementCount > MOST_SHOWN) this.element.lastElementChild?.remove();
    this.#showOlder(true);
  }

  /** Older entries stay if the listing reaches down to them. @param {PageEvents["listing"]} listing */
  #reconcile({ messages, next, isNews }) {
    const ids = new Set(messages.map(({ id }) => id));
    const oldest = messages[messages.length - 1]?.id;
    const entries = [...this.element.querySelectorAll(".entry[id]")];
    const reachesDown = next && entries.some(({ id }) => ids.has(id));
    for (const item of entries) {
      const isOlder = reachesDown && isNewer(oldest, item.id);
      if (!ids.has(item.id) && !isOlder) item.remove();
    }
    for (const message of [...messages].reverse()) {
      this.#edit(message);
      if (isNews) bus.emit("message", message);
      else this.show(message);
    }
    if (!reachesDown) this.#showOlder(Boolean(next));
  }

  get #lastId() {
    return this.element.lastElementChild?.id;
  }

  /** @param {boolean} areThere */
  #showOlder(areThere) {
    if (!this.#older) return;
    const last = this.#lastId;
    this.#older.hidden = !areThere || !last;
    if (last) this.#older.href = `/?before=${last}`;
  }

  /** @param {HTMLAnchorElement} older */
  #watchEnd(older) {
    const end = new IntersectionObserver(([{ isIntersecting }]) => isIntersecting && load(), {
      rootMargin: "600px",
    });
    const load = async () => {
      const last = this.#lastId;
      end.unobserve(older);
      const isLoaded = await this.#loadOlder(older);
      // A request that brought nothing is not repeated at once.
      setTimeout(() => end.observe(older), last === this.#lastId ? 10_000 : 0);
      return isLoaded;
    };
    older.addEventListener("click", async (event) => {
      event.preventDefault();
      if (!(await load())) location.assign(older.href);
    });
    end.observe(older);
  }

  /** @param {HTMLAnchorElement} older */
  async #loadOlder(older) {
    const last = this.#lastId;
    if (older.hidden || !last) return true;
    const listing = await getListing(`limit=50&before=${last}`);
    if (!listing) return false;
    if (last === this.#lastId) {
      const unknown = listing.messages.filter(({ id }) => !this.knows(id));
      this.element.append(...unknown.map((message) => createEntry(message)));
      this.#showOlder(Boolean(listing.next));
    }
    return true;
  }
}

export const list = new MessageList();

/** Tells of new messages: in the title, above the list, and to screen readers. */
class News {
  #title = document.title;
  #pill = find("unseen");
  #unseen = 0; // above the window
  #unread = 0; // in a hidden tab
  /** @type {Message[]} */
  #unannounced = [];
  #announcedAt = 0;
  /** The outbox and the wall may keep a message back. @type {(message: Message) => boolean} */
  isKeptBack = () => false;

  constructor() {
    bus.on("message", (message) => {
      if (!list.knows(message.id) && !this.isKeptBack(message)) this.#add(message);
    });
    addEventListener("scroll", () => this.look(), { passive: true });
    this.#pill?.addEventListener("click", () => this.#goToTop());
  }

  read() {
    this.#unread = 0;
    this.#show();
  }

  look() {
    list.measure();
    if (list.isBelow || list.isArchive || !this.#unseen) return;
    this.#unseen = 0;
    this.#show();
  }

  /** @param {Message} message */
  #add(message) {
    list.show(message);
    if (document.hidden) this.#unread += 1;
    if (list.isBelow || list.isArchive) this.#unseen += 1;
    this.#show();
    if (!this.#unannounced.length)
      setTimeout(() => this.#announce(), Math.max(800, this.#announcedAt + 6_000 - Date.now()));
    this.#unannounced.push(message);
  }

  #show() {
    document.title = this.#unread ? `(${numbers.format(this.#unread)}) ${this.#title}` : this.#title;
    if (!this.#pill) return;
    this.#pill.hidden = !this.#unseen;
    if (this.#unseen) this.#pill.textContent = count(this.#pill, this.#unseen);
  }

  /** To screen readers, and seldom. */
  #announce() {
    const news = byId("news");
    const { one, anonymous } = news.dataset;
    const [{ author, text }, ...more] = this.#unannounced;
    news.textContent = more.length
      ? count(news, this.#unannounced.length)
      : fill(one, { author: author ?? anonymous, text });
    this.#unannounced = [];
    this.#announcedAt = Date.now();
  }

  #goToTop() {
    if (list.isArchive) return location.assign("/");
    byId("messages-title").focus({ preventScroll: true });
    list.element.parentElement?.scrollIntoView();
  }
}

export const news = new News();
