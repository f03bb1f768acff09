import {
  bus,
  byId,
  cloneTemplate,
  closest,
  create,
  everyWhileVisible,
  find,
  main,
  onClick,
  part,
  storage,
} from "../browser.js";
import { explain } from "../form.js";
import { list } from "../list.js";
import { live, timeline } from "../live.js";
import { isHeld, isSame, OWN } from "../outbox.js";
import { send } from "../requests.js";
import { normalise, serverClock } from "../text.js";

/** Messages from this browser that their author may still change: the key of the post proves it. */
export class Own {
  #outbox;
  #window = 1000 * Number(main.dataset.undoSeconds ?? 0);
  #isAsking = false;

  /** @param {import("../outbox.js").Outbox} outbox */
  constructor(outbox) {
    this.#outbox = outbox;
    bus.on("pods", (event) => this.#setEditable(event));
    if (timeline.lastPods) this.#setEditable(timeline.lastPods.data);
    bus.on("listing", () => this.show());
    bus.on("edited", () => this.show());
    bus.on("deleted", ({ id }) => delete storage[OWN + id]);
    bus.on("message", (message) => {
      if (outbox.drafts.some((draft) => isHeld(draft) && isSame(draft, message))) this.#ask();
    });
    onClick(list.element, (target) => {
      const item = closest(target, ".entry");
      if (!item) return;
      if (target.matches(".amend")) this.#edit(item);
      else if (target.matches(".retract")) this.#retract(item, target);
      else if (target.matches("[data-state=held] .discard")) this.#withdraw(item.dataset.key);
    });
    everyWhileVisible(() => this.show(), 5_000);
    everyWhileVisible(() => this.#ask(), 15_000);
  }

  /** With moderation a new text would appear without approval. @param {PodsEvent} event */
  #setEditable({ moderation }) {
    main.toggleAttribute("data-moderated", moderation === "before");
  }

  show() {
    for (const name of Object.keys(storage).filter((name) => name.startsWith(OWN))) {
      const id = name.slice(OWN.length);
      const isOver = parseInt(id) + this.#window < serverClock.now();
      const item = find(id);
      const tools = item?.querySelector(".own");
      if (isOver) {
        delete storage[name];
        if (!item?.querySelector("form")) tools?.remove();
      } else if (item && !tools) item.append(cloneTemplate("own"));
    }
  }

  /** Ask what has become of messages that wait for approval, by repeating their posts. */
  async #ask() {
    const outbox = this.#outbox;
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

  /** @param {HTMLElement} item */
  #edit(item) {
    const field = create("textarea");
    field.dir = "auto";
    field.ariaLabel = part(main, "label").textContent;
    const form = create("form", field, cloneTemplate("amending"));
    const text = part(item, ".text");
    const tools = part(item, ".own");
    field.value = text.textContent ?? "";
    const close = () => {
      form.remove();
      text.hidden = tools.hidden = false;
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
    part(form, ".cancel").onclick = close;
    text.hidden = tools.hidden = true;
    text.after(form);
    field.focus();
  }

  /** Take a message back; the first click only asks. @param {HTMLElement} item @param {HTMLElement} button */
  async #retract(item, button) {
    const { sure } = button.dataset;
    delete button.dataset.sure;
    if (sure) button.textContent = sure;
    else part(item, ".why").textContent = await this.#send(item.id);
  }

  /** Change the text, or without one take the message back. Returns the reason if it fails. @param {string} id @param {{text: string}} [body] */
  async #send(id, body) {
    const { late = "", fixed = "", unreachable = "" } = byId("note").dataset;
    const answer = await send(body ? "PATCH" : "DELETE", `/messages/${id}`, {
      key: storage[OWN + id] ?? "",
      body,
    });
    if (answer?.status === 204 || answer?.status === 404) bus.emit("deleted", { id });
    else if (answer?.ok) bus.emit("edited", answer.body);
    else if (answer?.status === 422) return explain({ status: 422, ...answer.body }).reason;
    else if (answer?.body?.code === "approved") return fixed;
    else return answer?.status === 403 ? late : unreachable;
    return "";
  }

  /** Before it was approved. @param {string | undefined} key */
  async #withdraw(key) {
    const outbox = this.#outbox;
    const draft = outbox.drafts.find((draft) => draft.key === key);
    if (!draft?.held) return;
    const answer = await send("DELETE", `/messages/${draft.held}`, { key: draft.key });
    if (answer?.ok) outbox.take(key);
    else if (answer && answer.status < 500) await this.#ask();
    else outbox.mark(draft.key, "held", byId("note").dataset.unreachable);
  }
}
