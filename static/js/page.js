import { find, openStorage } from "./browser.js";
import { Form, Problems } from "./form.js";
import { MessageList, News } from "./list.js";
import { Live, Status, Timeline } from "./live.js";
import { Outbox } from "./outbox.js";
import { Happenings, PodPanel, Watching } from "./pods.js";
import { Tabs } from "./tabs.js";
import { Texts } from "./text.js";

export class Bus extends EventTarget {
  /** @template {keyof PageEvents} Name @param {Name} name @param {PageEvents[Name]} detail */
  emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** @template {keyof PageEvents} Name @param {Name} name @param {(detail: PageEvents[Name]) => void} listener */
  on(name, listener) {
    this.addEventListener(name, (event) => listener(/** @type {CustomEvent} */ (event).detail));
  }
}

export function start() {
  const page = /** @type {Page} */ ({
    main: document.querySelector("main"),
    bus: new Bus(),
    texts: new Texts(document.documentElement.lang, navigator.languages ?? []),
    storage: openStorage("localStorage"),
  });
  page.list = new MessageList(page);
  page.status = new Status(page);
  page.timeline = new Timeline(page);
  page.live = new Live(page);
  new Watching(page);
  if (find("pods")) {
    page.happenings = new Happenings(page);
    new PodPanel(page);
  }
  if (find("token")) import("./lab.js").then(({ Lab }) => new Lab(page));
  if (page.main.dataset.view) import("./wall.js").then(({ Wall }) => new Wall(page));
  if (find("desk")) import("./moderate.js").then(({ Desk }) => new Desk(page));
  const form = /** @type {HTMLFormElement | null} */ (page.main.querySelector("form[action]"));
  if (form) {
    page.form = form;
    page.problems = new Problems(page);
    page.outbox = new Outbox(page);
    new Form(page);
    const showOwn = () =>
      import("./own.js").then(
        ({ Own }) => (page.own ??= new Own(page)).show(),
        () => {}, // no network: at the next occasion
      );
    page.bus.on("own", showOwn);
  }
  const news = new News(page);
  const tabs = new Tabs(page);

  const wake = () => {
    if (!document.hidden) {
      news.read();
      page.list.showTimes();
    }
    tabs.wake();
  };
  addEventListener("online", wake);
  document.addEventListener("visibilitychange", wake);
  document.addEventListener("resume", wake);
  setInterval(() => document.hidden || page.list.showTimes(), 30_000);

  tabs.apply();
  news.look();
  page.outbox?.show();
  page.outbox?.send();
  setTimeout(() => page.list.showTimes()); // fifty take a while on a slow telephone
}
