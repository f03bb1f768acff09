import { bus, byId, create, inputById, part } from "../browser.js";
import { clock, fill } from "../text.js";
import { session } from "./session.js";

/** The moderators' switches for everyone: closing, moderation, bans. */
export class Switches {
  #moderation = inputById("moderation");
  #closing = inputById("closing-words");

  constructor() {
    byId("closing").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#change({ closed: this.#closing.readOnly ? null : this.#closing.value });
    });
    this.#moderation.addEventListener("change", () =>
      this.#change({ moderation: this.#moderation.checked ? "before" : "off" }),
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
    this.#moderation.checked = (moderation ?? moderation_setting) === "before";
    this.#showClosed(closed ?? undefined);
    bus.emit("switched", undefined);
  }

  /** @param {string} [closed] */
  #showClosed(closed) {
    const isClosed = closed !== undefined;
    if (isClosed) this.#closing.value = closed;
    this.#closing.readOnly = isClosed;
    const button = part(byId("closing"), "button");
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
