import { byId, part } from "./browser.js";

/** @typedef {{failed: () => void, switched: () => void}} On */

/** What moderators switch for everyone: closing, moderation, bans. */
export class Switches {
  #page;
  #session;
  #on;
  isModerated = true;

  /** @param {Page} page @param {import("./held.js").Session} session @param {On} on */
  constructor(page, session, on) {
    this.#page = page;
    this.#session = session;
    this.#on = on;
    byId("closing").addEventListener("submit", (event) => {
      event.preventDefault();
      const { value } = /** @type {HTMLInputElement} */ (byId("closing-words"));
      this.#change({ closed: byId("closing").dataset.closed ? null : value });
    });
    byId("moderation").addEventListener("change", ({ target }) => {
      const { checked } = /** @type {HTMLInputElement} */ (target);
      this.#change({ moderation: checked ? "before" : "off" });
    });
    byId("banned").addEventListener("toggle", () => this.showBans());
    page.bus.on("pods", ({ closed }) => this.#showClosed(closed));
  }

  /** @param {object} change */
  async #change(change) {
    const answer = await this.#session.call("PATCH", "/control", change);
    if (answer?.isRefused) return;
    if (answer?.ok) return this.show(answer.body);
    this.#on.failed();
    const before = await this.#session.call("GET", "/control");
    if (before?.ok) this.show(before.body);
  }

  /** @param {{closed: string | null, moderation: string | null, moderation_setting: string}} control */
  show({ closed, moderation, moderation_setting }) {
    this.isModerated = (moderation ?? moderation_setting) === "before";
    /** @type {HTMLInputElement} */ (byId("moderation")).checked = this.isModerated;
    this.#showClosed(closed ?? undefined);
    this.#on.switched();
  }

  /** @param {string} [closed] */
  #showClosed(closed) {
    const form = byId("closing");
    const field = /** @type {HTMLInputElement} */ (byId("closing-words"));
    const button = part(form, "button");
    const isClosed = closed !== undefined;
    if (isClosed) {
      field.value = closed;
      form.dataset.closed = "true";
    } else delete form.dataset.closed;
    field.readOnly = isClosed;
    button.textContent = (isClosed ? button.dataset.open : button.dataset.close) ?? "";
  }

  async showBans() {
    if (!(/** @type {HTMLDetailsElement} */ (byId("banned")).open)) return;
    const answer = await this.#session.call("GET", "/bans");
    if (!answer?.ok) return;
    const list = part(byId("banned"), "ul");
    const { none, until: words, unban } = list.dataset;
    const items = answer.body.bans.map(
      (/** @type {{network: string, until: string}} */ { network, until }) => {
        const item = document.createElement("li");
        const button = document.createElement("button");
        button.dataset.network = network;
        button.textContent = unban ?? "";
        const time = this.#page.texts.clock.format(new Date(until));
        item.append(this.#page.texts.fill(words, { network, time }), " ", button);
        return item;
      },
    );
    if (!items.length) items.push(Object.assign(document.createElement("li"), { textContent: none }));
    list.replaceChildren(...items);
  }

  /** @param {string} network */
  async unban(network) {
    await this.#session.call("DELETE", `/bans/${network}`);
    this.showBans();
  }
}
