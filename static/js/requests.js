import { parse } from "./browser.js";

/** Headers are Latin-1, and the server reads UTF-8 in them. @param {string} token */
export const bearer = (token) => `Bearer ${String.fromCharCode(...new TextEncoder().encode(token))}`;

/** Send a request; undefined if no answer came in time. @param {string} method @param {string} url @param {RequestOptions} [options] */
export async function send(method, url, options = {}) {
  const { key, token, body, keepalive, ms = 15_000, abort = new AbortController() } = options;
  const headers = new Headers({ Accept: "application/json" });
  if (key !== undefined) headers.set("Idempotency-Key", key);
  if (token) headers.set("Authorization", bearer(token));
  if (body) headers.set("Content-Type", "application/json");
  const timer = setTimeout(() => abort.abort(), ms); // Safari 15 has no AbortSignal.timeout
  let response, text;
  try {
    // Nothing else: an error of our own must not pass for one of the network.
    response = await fetch(url, {
      method,
      headers,
      keepalive,
      body: body && JSON.stringify(body),
      cache: "no-store",
      signal: abort.signal,
    });
    text = await response.text();
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
  const isProblem = response.headers.get("Content-Type")?.startsWith("application/problem");
  const { ok, status } = response;
  return { ok, status, isProblem, body: parse(text), headers: response.headers };
}

/** @param {any} value @returns {value is Message} */
export const isMessage = (value) => /^\d+-\d+$/.test(value?.id) && typeof value.text === "string";

/** Read a list; a captive portal answers 200 too, but with something else. @param {string} query @returns {Promise<Listing | undefined>} */
export async function getListing(query) {
  const answer = await send("GET", `/messages?${query}`, { ms: 10_000 });
  const messages = answer?.ok && answer.body?.messages;
  if (!answer || !Array.isArray(messages) || !messages.every(isMessage)) return;
  const skew = Date.now() - Date.parse(answer.headers.get("Date") ?? "");
  // A pod that is still starting has no cursor.
  const cursor = answer.headers.get("Guestbook-Cursor") ?? messages[0]?.id ?? "0-0";
  return { ...answer.body, skew, cursor };
}

/** Return a delay with jitter, so that pages do not all reconnect at once. @param {number} failures */
export const backOff = (failures) => Math.min(10_000, 250 * 2 ** failures) * (0.5 + Math.random() / 2);
