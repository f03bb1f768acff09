import { bus, everyWhileVisible, find, main } from "./browser.js";
import { Form } from "./form.js";
import { list, news } from "./list.js";
import { Outbox } from "./outbox.js";
import { Happenings, openPodPanel, showWatching } from "./pods.js";
import { Tabs } from "./tabs.js";

/** @param {HTMLFormElement} form */
function startForm(form) {
  const outbox = new Outbox();
  new Form(form, outbox);
  /** @type {import("./own/own.js").Own | undefined} */
  let own;
  bus.on("own", () => {
    import("./own/own.js").then(
      ({ Own }) => (own ??= new Own(outbox)).show(),
      () => {}, // no network: at the next occasion
    );
  });
  news.isKeptBack = (message) => outbox.keepsBack(message);
  return outbox;
}

export function start() {
  bus.on("pods", (event) => {
    if (event.pod) main.dataset.pod = event.pod;
    showWatching(event);
  });
  if (find("pods")) {
    const happenings = new Happenings();
    openPodPanel();
    if (find("token")) import("./panel/lab.js").then(({ Lab }) => new Lab(happenings));
  }
  if (main.dataset.view) import("./wall/wall.js").then(({ Wall }) => new Wall());
  if (find("desk")) import("./moderate/desk.js").then(({ Desk }) => new Desk());
  const form = /** @type {HTMLFormElement | null} */ (main.querySelector("form[action]"));
  const outbox = form && startForm(form);
  const tabs = new Tabs();

  const wake = () => {
    if (!document.hidden) {
      news.read();
      list.showTimes();
    }
    tabs.wake();
  };
  addEventListener("online", wake);
  document.addEventListener("visibilitychange", wake);
  document.addEventListener("resume", wake);
  everyWhileVisible(() => list.showTimes(), 30_000);

  tabs.apply();
  news.look();
  outbox?.show();
  outbox?.send();
  setTimeout(() => list.showTimes()); // fifty take a while on a slow telephone
}
