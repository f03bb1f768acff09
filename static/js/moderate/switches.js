import { bus, byId, create, inputById, part } from "../browser.js";
import { clock, fill } from "../text.js";
import { session } from "./session.js";

/** The moderators' switches for everyone: closing, moderation, bans. */
export class Switches {
  isModerated = true;

  constructor() {
    byId("closing").addEventListener("submit", (event) => {
      event.preventDefault();
      const { value } = inputById("closing-words");
      this.#change({ closed: byId("closing").dataset.closed ? null : value });
    });
    const moderation = inputById("moderation");
    moderation.addEventListener("change", () =>
      this.#change({ moderation: moderation.checked ? "before" : "off" }),
    );
    byId("banned").addEventListener("toggle", () => this.showBans());
    bus.on("pods", ({ closed }) => this.#showClosed(closed));
  }

  /** @param {object} body */
  async #change(body) {
    const answer = await session.send("PATCH", "/control", { body });
    if (answer?.isRefused) return;
    if (answer?.ok) return this.show(answer.body);
    bus.emit("reached", false);
    const before = await session.send("GET", "/control");
    if (before?.ok) this.show(before.body);
  }

  /** @param {Control} control */
  show({ closed, moderation, moderation_setting }) {
    this.isModerated = (moderation ?? moderation_setting) === "before";
    inputById("moderation").checked = this.isModerated;
    this.#showClosed(closed ?? undefined);
    bus.emit("switched", undefined);
  }

  /** @param {string} [closed] */
  #showClosed(closed) {
    const form = byId("closing");
    const field = inputById("closing-words");
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
    const answer = await session.send("GET", "/bans");
    if (!answer?.ok) return;
    const list = part(byId("banned"), "ul");
    const { none = "", until: words, unban = "" } = list.dataset;
    /** @type {{network: string, until: string}[]} */
    const bans = answer.body.bans;
    const items = bans.map(({ network, until }) => {
      const button = create("button", unban);
      button.dataset.network = network;
      const time = clock.format(new Date(until));
      return create("li", fill(words, { network, time }), " ", button);
    });
    if (!items.length) items.push(create("li", none));
    list.replaceChildren(...items);
  }

  /** @param {string} network */
  async unban(network) {
    await session.send("DELETE", `/bans/${network}`);
    this.showBans();
  }
}
