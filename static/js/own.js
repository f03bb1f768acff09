import { byId, cloneTemplate, find, part, request } from "./browser.js";
import { isHeld, isSame, OWN } from "./outbox.js";
import { normalise } from "./text.js";

/** What this browser wrote and its author may still change: the key of the post proves it. */
export class Own {
  #page;
  #window;
  #isAsking = false;

  /** @param {Page} page */
  constructor(page) {
    const { bus, list, main } = page;
    this.#page = page;
    this.#window = 1000 * Number(main.dataset.undoSeconds ?? 0);
    bus.on("pods", (event) => this.#setEditable(event));
    if (page.timeline.lastPods) this.#setEditable(page.timeline.lastPods.data);
    bus.on("listing", () => this.show());
    bus.on("edited", () => this.show());
    bus.on("deleted", ({ id }) => delete page.storage[OWN + id]);
    bus.on("message", (message) => {
      if (page.outbox.drafts.some((draft) => isHeld(draft) && isSame(draft, message))) this.#ask();
    });
    list.element.addEventListener("click", ({ target }) => this.#choose(/** @type {HTMLElement} */ (target)));
    setInterval(() => document.hidden || this.show(), 5_000);
    setInterval(() => document.hidden || this.#ask(), 15_000);
  }

  /** With moderation new words would be seen unread. @param {PodsEvent} event */
  #setEditable({ moderation }) {
    this.#page.main.toggleAttribute("data-moderated", moderation === "before");
  }

  show() {
    const { storage, texts } = this.#page;
    for (const name of Object.keys(storage).filter((name) => name.startsWith(OWN))) {
      const id = name.slice(OWN.length);
      const isOver = parseInt(id) + this.#window < Date.now() - texts.skew;
      const item = find(id);
      const tools = item?.querySelector(".own");
      if (isOver) {
        delete storage[name];
        if (!item?.querySelector("form")) tools?.remove();
      } else if (item && !tools) item.append(cloneTemplate("own"));
    }
  }

  /** What has become of messages that wait to be approved: their keys get the answer. */
  async #ask() {
    const { outbox, live } = this.#page;
    if (this.#isAsking || !live.isLeading) return;
    this.#isAsking = true;
    for (const draft of outbox.drafts.filter(isHeld)) {
      const { message, problem } = await outbox.post(draft);
      if (message) outbox.finish(draft, message);
      else if (problem?.code === "refused") outbox.refuse(draft, problem);
      else if (problem?.code === "withdrawn") outbox.take(draft.key);
    }
    this.#isAsking = false;
  }

  /** @param {HTMLElement} target */
  #choose(target) {
    const item = /** @type {HTMLElement | null} */ (target.closest(".entry"));
    if (!item) return;
    if (target.matches(".amend")) this.#edit(item);
    else if (target.matches(".retract")) this.#retract(item, target);
    else if (target.matches("[data-state=held] .discard")) this.#withdraw(item.dataset.key);
  }

  /** @param {HTMLElement} item */
  #edit(item) {
    const form = document.createElement("form");
    const field = document.createElement("textarea");
    field.dir = "auto";
    field.ariaLabel = part(this.#page.form, "label").textContent;
    form.append(field, cloneTemplate("amending"));
    const text = part(item, ".text");
    const tools = part(item, ".own");
    field.value = text.textContent ?? "";
    const close = (isOpen = false) => {
      text.hidden = tools.hidden = isOpen;
      if (isOpen) return text.after(form);
      form.remove();
      part(item, ".amend").focus();
    };
    form.onsubmit = async (event) => {
      event.preventDefault();
      const problem = await this.#send(item.id, { text: normalise(field.value) });
      part(form, ".problem").textContent = problem;
      if (!problem) close();
    };
    form.onkeydown = (event) => {
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    };
    part(form, ".cancel").onclick = () => close();
    close(true);
    field.focus();
  }

  /** The first click asks. @param {HTMLElement} item @param {HTMLElement} button */
  async #retract(item, button) {
    const { sure } = button.dataset;
    delete button.dataset.sure;
    if (sure) button.textContent = sure;
    else part(item, ".why").textContent = await this.#send(item.id);
  }

  /** A new text, or none: take it back. Returns why not. @param {string} id @param {{text: string}} [change] */
  async #send(id, change) {
    const { bus, storage, problems } = this.#page;
    const { late = "", fixed = "", unreachable = "" } = byId("note").dataset;
    const answer = await this.#request(id, storage[OWN + id], change);
    if (answer?.status === 204 || answer?.status === 404) bus.emit("deleted", { id });
    else if (answer?.ok) bus.emit("edited", answer.body);
    else if (answer?.status === 422)
      return problems.explain({ status: 422, ...answer.body }, { ...change }).reason;
    else if (answer?.body?.code === "approved") return fixed;
    else return answer?.status === 403 ? late : unreachable;
    return "";
  }

  /** Before it was approved. @param {string | undefined} key */
  async #withdraw(key) {
    const { outbox } = this.#page;
    const draft = outbox.drafts.find((draft) => draft.key === key);
    if (!draft?.held) return;
    const answer = await this.#request(draft.held, draft.key);
    if (answer?.ok) outbox.take(key);
    else if (answer && answer.status < 500) await this.#ask();
    else outbox.mark(draft.key, "held", byId("note").dataset.unreachable);
  }

  /** @param {string} id @param {string} [key] @param {object} [change] */
  #request(id, key = "", change) {
    const headers = { "Idempotency-Key": key, "Content-Type": "application/json" };
    const options = { method: change ? "PATCH" : "DELETE", headers, body: change && JSON.stringify(change) };
    return request(`/messages/${id}`, options, 15_000);
  }
}
