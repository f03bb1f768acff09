import { byId, newKey, openStorage, part, store } from "./browser.js";
import { normalise } from "./text.js";

const GROWS = CSS.supports("field-sizing", "content");

/** @typedef {HTMLTextAreaElement | HTMLInputElement} Field */

/** As the server counts. @param {string} text */
const lengthOf = (text) => [...text].length;

export class Problems {
  #page;

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
  }

  /** @param {string} [name] @returns {Field | undefined} */
  field(name = "") {
    const fields = /** @type {any} */ (this.#page.form.elements);
    return ["text", "author"].includes(name) ? fields[name] : undefined;
  }

  /** @param {ProblemDetails} problem @param {Record<string, any>} draft @returns {Problem} */
  explain({ status, code, detail = "", errors: [{ field, code: fault } = {}] = [] }, draft) {
    if (code === "closed") return { field: "form", reason: detail };
    const input = this.field(field);
    const name = input?.name ?? "form";
    const own = byId(`${name}-problem`).dataset;
    const { dataset } = byId("form-problem");
    const words = own[fault ?? code ?? ""] ?? own[status] ?? dataset[status] ?? dataset.other;
    // Only sentences about the length have {n} and {max}. pages/renderer.py does the same.
    const values = { n: lengthOf(draft[name] ?? ""), max: Number(input?.dataset.max) };
    return { field: name, reason: this.#page.texts.fill(words, values) };
  }

  /** @param {string} name @param {string} reason */
  show(name, reason) {
    byId(`${name}-problem`).textContent = reason;
    if (reason) this.field(name)?.setAttribute("aria-invalid", "true");
    else this.field(name)?.removeAttribute("aria-invalid");
  }

  clear() {
    for (const name of ["text", "author", "form"]) this.show(name, "");
  }
}

export class Form {
  #page;
  #text;
  #author;
  #note = byId("note");
  #closed = byId("closed");
  #room = byId("room");
  /** @type {Set<string>} */
  #written = new Set();
  /** @type {Draft | undefined} */
  #takenBack;
  #newest = 0;
  #session = openStorage("sessionStorage");

  /** @param {Page} page */
  constructor(page) {
    this.#page = page;
    const { form, bus, problems, storage, list } = page;
    this.#text = /** @type {Field} */ (problems.field("text"));
    this.#author = /** @type {Field} */ (problems.field("author"));
    // To a screen reader a required field that is empty would be invalid from the start.
    this.#text.required = false;
    this.#text.setAttribute("aria-required", "true");
    this.#text.value ||= this.#session["guestbook.text"] ?? "";
    this.#author.value ||= this.#session["guestbook.author"] ?? storage["guestbook.author"] ?? "";
    this.#listen();
    list.element.addEventListener("click", ({ target }) => this.#choose(/** @type {HTMLElement} */ (target)));
    bus.on("pods", ({ closed }) => this.#close(closed));
    bus.on("emptied", ({ isSent, isHeld }) => {
      if (!["sending", "waiting", "held"].includes(form.dataset.state ?? "")) return;
      if (isHeld) this.#show("held", this.#note.dataset.held);
      else if (isSent) this.#show("sent", this.#note.dataset.sent);
      else this.#show("idle");
    });
    bus.on("delayed", (why) =>
      this.#show("waiting", this.#note.dataset[why], this.#note.dataset[page.outbox.waiting]),
    );
    bus.on("refused", ({ key, held }) => {
      this.#show("refused");
      if (!held && !this.#text.value && this.#written.has(key)) this.#takeBack(key);
    });
    this.#edited();
    this.#close(this.#closed.textContent);
  }

  /** What is in the form stays there. @param {string | null} [why] */
  #close(why) {
    if (this.#closed.textContent !== (why ?? "")) this.#closed.textContent = why ?? "";
    byId("fields").hidden = Boolean(why && !this.#text.value);
    part(this.#page.form, "button").toggleAttribute("disabled", Boolean(why));
  }

  #listen() {
    this.#page.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#page.form.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      if (!event.repeat) this.#submit();
    });
    this.#page.form.addEventListener("input", ({ target }) => {
      this.#page.problems.show(/** @type {Field} */ (target).name, "");
      this.#edited();
      if (["sent", "refused"].includes(this.#page.form.dataset.state ?? "")) this.#show("idle");
    });
  }

  /** @param {HTMLElement} target */
  #choose(target) {
    const { key } = /** @type {HTMLElement | null} */ (target.closest(".pending"))?.dataset ?? {};
    if (target.matches(".edit")) this.#takeBack(key);
    else if (target.matches(".discard") && !target.closest("[data-state=held]")) this.#discard(key);
  }

  #submit() {
    if (this.#closed.textContent) return this.#closed.scrollIntoView();
    const text = normalise(this.#text.value);
    const author = normalise(this.#author.value);
    if (!text && Date.now() - this.#newest < 2_000) return; // a double click
    const fault = this.#findFault({ text, author });
    if (fault) {
      this.#show("refused");
      return fault.focus();
    }
    const draft = {
      key: newKey(),
      text,
      author,
      at: (this.#newest = Math.max(Date.now(), this.#newest + 1)),
    };
    // Sent again unchanged it is the same message.
    if (text === this.#takenBack?.text && author === this.#takenBack.author) draft.key = this.#takenBack.key;
    const { isFree } = this.#page.outbox;
    store(this.#page.storage, "guestbook.author", this.#author.value);
    this.#page.outbox.keep(draft);
    this.#takenBack = undefined;
    this.#written.add(draft.key);
    this.#text.value = "";
    this.#edited();
    if (isFree) this.#show("sending");
    this.#page.outbox.announce(draft.key);
  }

  /** @param {string | undefined} key */
  #takeBack(key) {
    const draft = this.#page.outbox.take(key);
    if (!draft) return;
    this.#text.value = [draft.text, this.#text.value].filter(Boolean).join("\n\n");
    this.#author.value = draft.author;
    this.#takenBack = draft;
    this.#edited();
    this.#close(this.#closed.textContent);
    this.#page.problems.clear();
    if (draft.refused) this.#page.problems.show(draft.refused.field, draft.refused.reason);
    else this.#show("idle");
    (this.#page.problems.field(draft.refused?.field) ?? this.#text).focus();
  }

  /** @param {string | undefined} key */
  #discard(key) {
    this.#page.outbox.take(key);
    if (!this.#page.outbox.drafts.length) this.#show("idle");
    this.#text.focus();
  }

  /** @param {string} state @param {(string | undefined)[]} words */
  #show(state, ...words) {
    this.#page.form.dataset.state = state;
    this.#note.textContent = words.join(" ");
  }

  #edited() {
    for (const { name, value } of [this.#text, this.#author])
      store(this.#session, `guestbook.${name}`, value);
    const room = Number(this.#text.dataset.max) - lengthOf(normalise(this.#text.value));
    const { left, over } = this.#room.dataset;
    if (room < 0) this.#room.textContent = this.#page.texts.fill(over, { n: -room });
    else this.#room.textContent = room < 100 ? this.#page.texts.fill(left, { n: room }) : "";
    if (GROWS) return;
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight + 4}px`;
  }

  /** @param {Record<string, string>} draft */
  #findFault(draft) {
    const { problems } = this.#page;
    problems.clear();
    let first;
    for (const field of [this.#text, this.#author]) {
      const length = lengthOf(draft[field.name]);
      const isTooLong = length > Number(field.dataset.max);
      const code = isTooLong ? "too_long" : length || field === this.#author ? undefined : "empty";
      if (!code) continue;
      const errors = [{ field: field.name, code }];
      problems.show(field.name, problems.explain({ status: 422, errors }, draft).reason);
      first ??= field;
    }
    return first;
  }
}
