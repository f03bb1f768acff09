import { bus, parse } from "../browser.js";
import { backOff, bearer, isMessage } from "../requests.js";
import { session } from "./session.js";

const SILENCE = 40_000; // two pings and a half

/** The messages that wait, as the server sends them whenever they change. An EventSource has no token. */
export class HeldStream {
  /** @type {AbortController | undefined} */
  #abort;
  #timer = 0;
  #failures = 0;
  #lastAt = 0;

  constructor() {
    setInterval(() => Math.abs(Date.now() - this.#lastAt) > SILENCE && this.#abort?.abort(), 5_000);
  }

  start() {
    this.stop();
    this.#connect((this.#abort = new AbortController()));
  }

  stop() {
    clearTimeout(this.#timer);
    this.#abort?.abort();
    this.#abort = undefined;
  }

  /** @param {AbortController} abort */
  async #connect(abort) {
    this.#lastAt = Date.now();
    let status = 0;
    try {
      status = await this.#read(abort.signal);
    } catch {
      // The network, or a stream that was cut.
    }
    if (abort !== this.#abort || session.refuses(status)) return;
    bus.emit("reached", false);
    this.#timer = setTimeout(() => this.start(), status === 200 ? 300 : backOff(this.#failures++));
  }

  /** Returns the status: 200 if the server ended the stream. @param {AbortSignal} signal */
  async #read(signal) {
    const headers = { Authorization: bearer(session.token) };
    const response = await fetch("/held/events", { headers, signal, cache: "no-store" });
    if (!response.ok || !response.body) return response.status;
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (let text = ""; ;) {
      const { value, done } = await reader.read();
      if (done) return 200;
      this.#lastAt = Date.now();
      const blocks = (text + decoder.decode(value, { stream: true })).split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) this.#take(block);
    }
  }

  /** @param {string} block */
  #take(block) {
    const data = parse(/^data: ?(.*)$/m.exec(block)?.[1]);
    if (!/^event: ?held$/m.test(block) || !data?.messages?.every(isMessage)) return;
    this.#failures = 0;
    bus.emit("held", data);
  }
}
