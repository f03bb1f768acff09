/** @param {string} lang @param {readonly string[]} preferences */
function chooseLocale(lang, preferences) {
  const isUsable = (/** @type {string} */ tag) => {
    try {
      return tag.split("-")[0] === lang && Intl.getCanonicalLocales(tag).length;
    } catch {
      return false; // such as "en-US@posix"
    }
  };
  return preferences.find(isUsable) ?? lang;
}

/** @param {number} ms @returns {[number, "second" | "minute" | "hour" | "day"]} */
function round(ms) {
  const seconds = Math.max(0, ms / 1000);
  if (seconds < 60) return [Math.floor(seconds), "second"];
  if (seconds < 3600) return [Math.floor(seconds / 60), "minute"];
  if (seconds < 86_400) return [Math.floor(seconds / 3600), "hour"];
  return [Math.floor(seconds / 86_400), "day"];
}

export class Texts {
  skew = 0; // how far the visitor's clock is ahead of Redis's, in ms

  /** @param {string} lang @param {readonly string[]} preferences */
  constructor(lang, preferences) {
    const locale = chooseLocale(lang, preferences);
    this.locale = locale;
    this.numbers = new Intl.NumberFormat(locale, { maximumFractionDigits: 1, useGrouping: "min2" });
    this.plurals = new Intl.PluralRules(locale);
    this.ago = new Intl.RelativeTimeFormat(locale, { numeric: "auto", style: "short" });
    this.day = new Intl.DateTimeFormat(locale, { dateStyle: "medium" });
    this.exact = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "medium" });
    this.clock = new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
  }

  /** "{n} of {max}", filled in. @param {string | undefined} words @param {Record<string, any>} values */
  fill(words = "", values) {
    return words.replace(/\{(\w+)\}/g, (_, name) =>
      typeof values[name] === "number" ? this.numbers.format(values[name]) : values[name],
    );
  }

  /** @param {HTMLElement} element @param {number} n */
  count({ dataset }, n) {
    return this.fill(dataset[this.plurals.select(n)] ?? dataset.other, { n });
  }

  /** @param {Date} date */
  #since(date) {
    return round(Date.now() - this.skew - date.getTime());
  }

  /** @param {HTMLTimeElement} time */
  showTime(time) {
    const date = new Date(time.dateTime);
    const [n, unit] = this.#since(date);
    if (unit === "day") time.textContent = this.day.format(date);
    else time.textContent = unit === "second" ? this.ago.format(0, unit) : this.ago.format(-n, unit);
    time.title ||= this.exact.format(date);
  }

  /** @param {Date} date */
  age(date) {
    const [n, unit] = this.#since(date);
    return new Intl.NumberFormat(this.locale, { style: "unit", unit, unitDisplay: "short" }).format(n);
  }
}

// Outside of ASCII an address ends at punctuation, white space and format controls, wherever they stand; at
// hyphens, middle dots and marks inside words only if no letter follows. Python's linkify.py is its twin.
const ADDRESS =
  /https?:\/\/(?:[!#-;=?-_a-~\u200c\u200d]|[^\0-\x7f\p{P}\p{Z}\p{Cc}\p{Cf}]|[\xb7\u055a-\u055f\u058a\u05be\u05f3\u05f4\u0f0b\u2010-\u2013\u2027\u301c\u30a0\u30fb\uff65](?=[\p{L}\p{N}])|\u2019(?=[\p{L}\p{N}])(?![\u2e80-\uffff]))+/gu;
/** @type {Record<string, string>} */
const OPENING = { ")": "(", "]": "[", "}": "{" };

/** Runs of blank lines become one, as on the server. @param {string} text */
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
function link(address) {
  const anchor = document.createElement("a");
  anchor.setAttribute("href", address);
  anchor.setAttribute("rel", "nofollow ugc noopener");
  anchor.setAttribute("target", "_blank");
  anchor.textContent = address;
  return anchor;
}

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

/** Two hexadecimal digits, one for each of a pod's two colours: the low byte of its name's FNV-1a. @param {string} name */
export function hueOf(name) {
  let hash = 2166136261;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 16777619);
  return (hash & 255).toString(16).padStart(2, "0");
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

/** As texts, "9-0" would be newer than "10-0". @param {string} one @param {string} other */
export function isNewer(one, other) {
  const [ms, number] = one.split("-").map(BigInt);
  const [otherMs, otherNumber] = other.split("-").map(BigInt);
  return ms === otherMs ? number > otherNumber : ms > otherMs;
}
