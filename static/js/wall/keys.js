import { inputById, storage, store } from "../browser.js";

/** Single keys can be switched off: dictation, for one, presses them (WCAG 2.1.4). */
export function openKeySwitch() {
  const box = inputById("with-keys");
  box.checked = storage["guestbook.keys"] !== "off";
  box.addEventListener("change", () => store(storage, "guestbook.keys", box.checked ? "on" : "off"));
  return box;
}
