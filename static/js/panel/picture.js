import { bus, byId, create, everyWhileVisible, part } from "../browser.js";
import { count, fill } from "../text.js";

const STEP = 5_000;
const STEPS = 60;
const [WIDTH, HEIGHT] = [100, 20];
const SVG = "http://www.w3.org/2000/svg";

/** Streams, messages a second and pods over the last minutes. */
export class Picture {
  element = create("div");
  /** @type {{at: number, pods: number, streams: number}[]} */
  #counts = [];
  /** By step. @type {Map<number, number>} */
  #messages = new Map();
  #startedAt = Date.now();

  constructor() {
    this.element.className = "picture";
    bus.on("message", () => {
      const step = Math.floor(Date.now() / STEP);
      this.#messages.set(step, (this.#messages.get(step) ?? 0) + 1);
    });
    everyWhileVisible(() => this.#draw(), STEP);
  }

  /** @param {PodsEvent} event */
  show({ pods, streams }) {
    this.#counts.push({ at: Date.now(), pods: pods.length, streams });
    this.#draw();
  }

  #draw() {
    const now = Math.floor(Date.now() / STEP);
    const first = now - STEPS + 1;
    for (const step of this.#messages.keys()) if (step < first) this.#messages.delete(step);
    const expired = this.#counts.filter(({ at }) => at < first * STEP).length;
    this.#counts.splice(0, Math.max(0, expired - 1)); // the last of them still holds where the picture begins
    const start = Math.max(0, Math.floor(this.#startedAt / STEP) - first);
    const steps = Array.from({ length: STEPS }, (_, index) => first + index).slice(start);
    const counts = steps.map((step) => {
      const known = this.#counts.filter(({ at }) => at < (step + 1) * STEP);
      return known[known.length - 1] ?? this.#counts[0];
    });
    // The step that has not ended is no rate yet.
    const rates = steps.map(
      (step) => (this.#messages.get(step === now ? now - 1 : step) ?? 0) / (STEP / 1000),
    );
    const last = counts[counts.length - 1];
    if (!last) return;
    const words = byId("watching");
    const online = counts.map(({ streams }) => streams);
    const pods = counts.map((count) => count.pods);
    this.#drawLine(0, fill(words.dataset.watching, { n: last.streams }), online);
    this.#drawLine(1, fill(byId("field").dataset.rate, { n: rates[rates.length - 1] }), rates);
    this.#drawLine(2, count(words, last.pods), pods);
  }

  /** @param {number} position @param {string} words @param {number[]} values */
  #drawLine(position, words, values) {
    const most = Math.max(...values, 1);
    if (values.length === 1) values = [...values, ...values]; // one is no line
    const width = WIDTH / (values.length - 1);
    const points = values.map((value, index) => `${index * width},${HEIGHT - (value / most) * HEIGHT}`);
    const figure = this.element.children[position] ?? this.#createFigure();
    part(figure, "figcaption").textContent = words;
    figure.querySelector("polyline")?.setAttribute("points", points.join(" "));
  }

  #createFigure() {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true"); // the caption has its last value in words
    svg.append(document.createElementNS(SVG, "polyline"));
    const figure = create("figure", svg, create("figcaption"));
    this.element.append(figure);
    return figure;
  }
}
