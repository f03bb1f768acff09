import { bus, byId, closest, inputById, onClick, part, storage, store, tabStorage } from "./browser.js";
import { list } from "./list.js";
import { fill, normalise } from "./text.js";

const GROWS = CSS.supports("field-sizing", "content");

/** Plain http has no crypto.randomUUID. */
const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");

/** As the server counts. @param {string} text */
const lengthOf = (text) => [...text].length;

/** The field of this name, if the form has it. @param {string} [name] */
const fieldOf = (name = "") => (["text", "author"].includes(name) ? inputById(name) : undefined);

/** Return the reason why a draft was refused, for the visitor. @param {ProblemDetails} problem @returns {Problem} */
export function explain({
  status,
  code,
  detail = "",
  errors: [{ field, code: fault, numbers = {} } = {}] = [],
}) {
  if (code === "closed") return { field: "form", reason: detail };
  const name = fieldOf(field)?.name ?? "form";
  const own = byId(`${name}-problem`).dataset;
  const { dataset } = byId("form-problem");
  const words = own[fault ?? code ?? ""] ?? own[status] ?? dataset[status] ?? dataset.other;
  return { field: name, reason: fill(words, numbers) };
}

/** @param {string} name @param {string} reason */
function showProblem(name, reason) {
  byId(`${name}-problem`).textContent = reason;
  if (reason) fieldOf(name)?.setAttribute("aria-invalid", "true");
  else fieldOf(name)?.removeAttribute("aria-invalid");
}

function clearProblems() {
  for (const name of ["text", "author", "form"]) showProblem(name, "");
}

export class Form {
  #form;
  #outbox;
  #text = inputById("text");
  #author = inputById("author");
  #note = byId("note");
  #closed = byId("closed");
  /** The keys of what was written on this page. @type {Set<string>} */
  #written = new Set();
  /** @type {Draft | undefined} */
  #takenBack;
  #newest = 0;

  /** @param {HTMLFormElement} form @param {import("./outbox.js").Outbox} outbox */
  constructor(form, outbox) {
    this.#form = form;
    this.#outbox = outbox;
    // To a screen reader a required field that is empty would be invalid from the start.
    this.#text.required = false;
    this.#text.setAttribute("aria-required", "true");
    this.#text.value ||= tabStorage["guestbook.text"] ?? "";
    this.#author.value ||= tabStorage["guestbook.author"] ?? storage["guestbook.author"] ?? "";
    this.#listen();
    this.#edited();
    this.#close(this.#closed.textContent);
  }

  #listen() {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#form.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
      event.preventDefault();
      if (!event.repeat) this.#submit();
    });
    this.#form.addEventListener("input", ({ target }) => {
      showProblem(/** @type {HTMLInputElement} */ (target).name, "");
      this.#edited();
      if (this.#is("sent", "refused")) this.#show("idle");
    });
    onClick(list.element, (target) => {
      const { key } = closest(target, ".pending")?.dataset ?? {};
      if (target.matches(".edit")) this.#takeBack(key);
      else if (target.matches(".discard") && !target.closest("[data-state=held]")) this.#discard(key);
    });
    bus.on("pods", ({ closed }) => this.#close(closed));
    bus.on("emptied", ({ isSent, isHeld }) => {
      if (!this.#is("sending", "waiting", "held")) return;
      if (isHeld) this.#show("held", this.#note.dataset.held);
      else if (isSent) this.#show("sent", this.#note.dataset.sent);
      else this.#show("idle");
    });
    bus.on("delayed", (why) =>
      this.#show("waiting", this.#note.dataset[why], this.#note.dataset[this.#outbox.waiting]),
    );
    bus.on("refused", ({ key, held }) => {
      this.#show("refused");
      if (!held && !this.#text.value && this.#written.has(key)) this.#takeBack(key);
    });
  }

  /** @param {string[]} states */
  #is(...states) {
    return states.includes(this.#form.dataset.state ?? "");
  }

  /** @param {string} state @param {(string | undefined)[]} words */
  #show(state, ...words) {
    this.#form.dataset.state = state;
    this.#note.textContent = words.join(" ");
  }

  /** Keep the input of the form. @param {string | null} [why] */
  #close(why) {
    if (this.#closed.textContent !== (why ?? "")) this.#closed.textContent = why ?? "";
    byId("fields").hidden = Boolean(why && !this.#text.value);
    part(this.#form, "button").toggleAttribute("disabled", Boolean(why));
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
    this.#newest = Math.max(Date.now(), this.#newest + 1);
    const draft = { key: newKey(), text, author, at: this.#newest };
    // Sent again without a change, it is the same message.
    if (text === this.#takenBack?.text && author === this.#takenBack.author) draft.key = this.#takenBack.key;
    const { isFree } = this.#outbox;
    store(storage, "guestbook.author", this.#author.value);
    this.#takenBack = undefined;
    this.#written.add(draft.key);
    this.#text.value = "";
    this.#edited();
    if (isFree) this.#show("sending");
    this.#outbox.add(draft);
  }

  /** Return the first invalid field. @param {Record<string, string>} draft */
  #findFault(draft) {
    clearProblems();
    let first;
    for (const field of [this.#text, this.#author]) {
      const length = lengthOf(draft[field.name]);
      const max = Number(field.dataset.max);
      const code = length > max ? "too_long" : length || field === this.#author ? undefined : "empty";
      if (!code) continue;
      const errors = [{ field: field.name, code, numbers: { n: length, max } }];
      showProblem(field.name, explain({ status: 422, errors }).reason);
      first ??= field;
    }
    return first;
  }

  /** @param {string | undefined} key */
  #takeBack(key) {
    const draft = this.#outbox.take(key);
    if (!draft) return;
    this.#text.value = [draft.text, this.#text.value].filter(Boolean).join("\n\n");
    this.#author.value = draft.author;
    this.#takenBack = draft;
    this.#edited();
    this.#close(this.#closed.textContent);
    clearProblems();
    if (draft.refused) showProblem(draft.refused.field, draft.refused.reason);
    else this.#show("idle");
    (fieldOf(draft.refused?.field) ?? this.#text).focus();
  }

  /** @param {string | undefined} key */
  #discard(key) {
    this.#outbox.take(key);
    if (!this.#outbox.drafts.length) this.#show("idle");
    this.#text.focus();
  }

  #edited() {
    for (const { name, value } of [this.#text, this.#author]) store(tabStorage, `guestbook.${name}`, value);
    const room = byId("room");
    const left = Number(this.#text.dataset.max) - lengthOf(normalise(this.#text.value));
    if (left < 0) room.textContent = fill(room.dataset.over, { n: -left });
    else room.textContent = left < 100 ? fill(room.dataset.left, { n: left }) : "";
    if (GROWS) return;
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight + 4}px`;
  }
}
