import { create } from "./browser.js";

/** The visitor's own form of the page's language, such as en-GB. */
function chooseLocale() {
  const { lang } = document.documentElement;
  const isUsable = (/** @type {string} */ tag) => {
    try {
      return tag.split("-")[0] === lang && Intl.getCanonicalLocales(tag).length;
    } catch {
      return false; // such as "en-US@posix"
    }
  };
  return navigator.languages?.find(isUsable) ?? lang;
}

const locale = chooseLocale();
const plurals = new Intl.PluralRules(locale);
const ago = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "short" });
const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
const exact = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "medium" });
export const clock = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
export const numbers = new Intl.NumberFormat(locale, { maximumFractionDigits: 1, useGrouping: "min2" });

/** Redis's time, in ms. */
export const serverClock = {
  skew: 0, // how far the visitor's clock is ahead of it
  now() {
    return Date.now() - this.skew;
  },
};

/** "{n} of {max}", filled in. @param {string | undefined} words @param {Record<string, any>} values */
export const fill = (words = "", values) =>
  words.replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? numbers.format(values[name]) : values[name],
  );

/** @param {HTMLElement} element @param {number} n */
export const count = ({ dataset }, n) => fill(dataset[plurals.select(n)] ?? dataset.other, { n });

/** @param {string} time @returns {[number, "second" | "minute" | "hour" | "day"]} */
function since(time) {
  const seconds = Math.max(0, (serverClock.now() - Date.parse(time)) / 1000);
  if (seconds < 60) return [Math.floor(seconds), "second"];
  if (seconds < 3600) return [Math.floor(seconds / 60), "minute"];
  if (seconds < 86_400) return [Math.floor(seconds / 3600), "hour"];
  return [Math.floor(seconds / 86_400), "day"];
}

/** @param {HTMLTimeElement} time */
export function showTime(time) {
  const date = new Date(time.dateTime);
  const [n, unit] = since(time.dateTime);
  if (unit === "day") time.textContent = day.format(date);
  else time.textContent = unit === "second" ? ago.format(0, unit) : ago.format(-n, unit);
  time.title ||= exact.format(date);
}

/** @param {string} time */
export function age(time) {
  const [n, unit] = since(time);
  return new Intl.NumberFormat(locale, { style: "unit", unit, unitDisplay: "short" }).format(n);
}

// Outside of ASCII an address ends at punctuation, white space and format controls, wherever they stand; at
// hyphens, middle dots and marks inside words only if no letter follows. Python's linkify.py is its twin.
const ADDRESS =
  /https?:\/\/(?:[!#-;=?-_a-~\u200c\u200d]|[^\0-\x7f\p{P}\p{Z}\p{Cc}\p{Cf}]|[\xb7\u055a-\u055f\u058a\u05be\u05f3\u05f4\u0f0b\u2010-\u2013\u2027\u301c\u30a0\u30fb\uff65](?=[\p{L}\p{N}])|\u2019(?=[\p{L}\p{N}])(?![\u2e80-\uffff]))+/gu;
/** @type {Record<string, string>} */
const OPENING = { ")": "(", "]": "[", "}": "{" };

/** Reduce blank lines in a row to one, as the server does. @param {string} text */
export const condense = (text) => text.replace(/\n(?:[^\S\n\ufeff]*\n){2,}/g, "\n\n");

/** @param {string} address */
function trimAddress(address) {
  const count = (/** @type {string} */ character) => address.split(character).length;
  for (; address; address = address.slice(0, -1)) {
    const last = address[address.length - 1];
    const opening = OPENING[last];
    const isSurplus = opening && count(last) > count(opening);
    if (!isSurplus && !".,;:!?'".includes(last)) break;
  }
  return address;
}

/** @param {string} address */
const link = (address) =>
  Object.assign(create("a", address), { href: address, rel: "nofollow ugc noopener", target: "_blank" });

/** @param {Element} element @param {string} text */
export function writeText(element, text) {
  /** @type {(string | Node)[]} */
  const parts = [];
  let position = 0;
  for (const { 0: candidate, index } of text.matchAll(ADDRESS)) {
    const address = trimAddress(candidate);
    if (!/\/\/.*[^/]/.test(address)) continue;
    parts.push(text.slice(position, index), link(address));
    position = index + address.length;
  }
  element.replaceChildren(...parts, text.slice(position));
}

/** @param {string} character */
const isSpace = (character) => /[^\S\ufeff]/.test(character);
const VISIBLE = /[^\s\p{DI}\u2800\ufff9-\ufffb\u{1d159}]/u;

/** As the server does, in linear time: "" if nothing is visible. @param {string} text */
export function normalise(text) {
  const kept = text.replace(/\r\n|[\r\v\f\x85]/g, "\n").replace(/(?![\t\n])\p{Cc}/gu, "");
  if (!VISIBLE.test(kept)) return "";
  let [start, end] = [0, kept.length];
  while (isSpace(kept[start])) start += 1;
  while (isSpace(kept[end - 1])) end -= 1;
  return kept.slice(start, end);
}
