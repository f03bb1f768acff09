import { byId, store } from "./browser.js";

/** Single keys can be switched off: dictation, for one, presses them (WCAG 2.1.4). @param {Page["storage"]} storage */
export function openKeySwitch(storage) {
  const box = /** @type {HTMLInputElement} */ (byId("with-keys"));
  box.checked = storage["guestbook.keys"] !== "off";
  box.addEventListener("change", () => store(storage, "guestbook.keys", box.checked ? "on" : "off"));
  return box;
}
