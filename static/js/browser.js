/** @param {string} id */
export const find = (id) => document.getElementById(id);

/** @param {string} id */
export const byId = (id) => /** @type {HTMLElement} */ (find(id));

/** @param {ParentNode} parent @param {string} selector */
export const part = (parent, selector) => /** @type {HTMLElement} */ (parent.querySelector(selector));

/** @param {string} id */
export const cloneTemplate = (id) =>
  /** @type {HTMLElement} */ (
    /** @type {HTMLTemplateElement} */ (find(id)).content.firstElementChild?.cloneNode(true)
  );

/** @param {"localStorage" | "sessionStorage"} name */
export function openStorage(name) {
  try {
    window[name]["guestbook.probe"] = "";
    delete window[name]["guestbook.probe"];
    return /** @type {Record<string, string>} */ (window[name]);
  } catch {
    return {};
  }
}

/** As far as there is room. @param {Record<string, string>} storage @param {string} name @param {string} value */
export function store(storage, name, value) {
  try {
    storage[name] = value;
    return true;
  } catch {
    return false;
  }
}

/** @param {string} name */
export function openChannel(name) {
  try {
    return new BroadcastChannel(name);
  } catch {
    return undefined;
  }
}

/** As far as there are locks. @param {string} name @param {() => Promise<void>} act */
export async function exclusively(name, act) {
  let isGranted = false;
  try {
    await navigator.locks.request(name, () => {
      isGranted = true;
      return act();
    });
  } catch (error) {
    if (isGranted) throw error;
    await act();
  }
}

/** @param {string} text */
export function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Undefined where no answer came in time. @param {string} url @param {RequestInit} options @param {number} ms */
export async function request(url, options, ms, abort = new AbortController()) {
  const timer = setTimeout(() => abort.abort(), ms); // Safari 15 has no AbortSignal.timeout
  let response, text;
  try {
    // Nothing else: an error of our own must not pass for one of the network.
    response = await fetch(url, { ...options, signal: abort.signal });
    text = await response.text();
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
  const { ok, status, headers } = response;
  const isProblem = headers.get("Content-Type")?.startsWith("application/problem");
  const seconds = Number(headers.get("Retry-After"));
  const skew = Date.now() - Date.parse(headers.get("Date") ?? "");
  return { ok, status, isProblem, body: parse(text), seconds, skew, cursor: headers.get("Guestbook-Cursor") };
}

/** @param {any} value @returns {value is Message} */
export const isMessage = (value) => /^\d+-\d+$/.test(value?.id) && typeof value.text === "string";

/** A captive portal answers 200, too, but with no list. @param {string} url */
export async function getListing(url) {
  const answer = await request(url, { cache: "no-store" }, 10_000);
  const messages = answer?.ok && answer.body?.messages;
  if (!Array.isArray(messages) || !messages.every(isMessage)) return;
  // A pod that is still starting has no cursor.
  const cursor = answer?.cursor ?? messages[0]?.id ?? "0-0";
  return /** @type {Listing} */ ({ ...answer?.body, skew: answer?.skew, cursor });
}

/** With jitter, so that not all pages come back at once. @param {number} failures */
export const backOff = (failures) => Math.min(10_000, 250 * 2 ** failures) * (0.5 + Math.random() / 2);

/** Plain http has no crypto.randomUUID. */
export const newKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");
