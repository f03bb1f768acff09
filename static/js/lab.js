import { byId, openStorage, part, request } from "./browser.js";

export class Lab {
  #happenings;
  #storage = openStorage("sessionStorage");

  /** @param {Page} page */
  constructor({ happenings }) {
    this.#happenings = happenings;
    byId("pods").addEventListener("click", ({ target }) => this.#choose(/** @type {HTMLElement} */ (target)));
  }

  /** @param {HTMLElement} target */
  #choose(target) {
    const { action } = target.dataset;
    const menu = target.closest("details");
    const { pod } = /** @type {HTMLElement | null} */ (target.closest("[data-pod]"))?.dataset ?? {};
    if (!action || !menu || !pod) return;
    menu.open = false;
    part(menu, "summary").focus();
    this.#act(pod, action, (target.textContent ?? "").trim());
  }

  /** @param {string} pod @param {string} action @param {string} words @returns {Promise<void>} */
  async #act(pod, action, words) {
    const token = this.#storage["guestbook.token"];
    const headers = { Accept: "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
    const answer = await request(
      `/lab/${encodeURIComponent(pod)}/${action}`,
      { method: "POST", headers },
      15_000,
    );
    if (!answer) this.#happenings.add("unreachable");
    else if (answer.ok) this.#happenings.add("asked", { pod, action: words });
    else if (answer.status !== 401) this.#happenings.add(answer.body?.detail ?? "unreachable");
    else if (await this.#askForToken(token)) await this.#act(pod, action, words);
  }

  /** @param {string | undefined} wrong @returns {Promise<boolean>} */
  #askForToken(wrong) {
    const dialog = /** @type {HTMLDialogElement} */ (byId("token"));
    const input = /** @type {HTMLInputElement} */ (byId("token-value"));
    delete this.#storage["guestbook.token"];
    input.value = "";
    dialog.returnValue = "";
    dialog.showModal();
    const problem = byId("token-problem");
    problem.textContent = (wrong && problem.dataset.wrong) ?? "";
    if (wrong) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    return new Promise((resolve) => {
      dialog.onclose = () => {
        const value = input.value.trim();
        if (dialog.returnValue !== "ok" || !value) return resolve(false);
        this.#storage["guestbook.token"] = value;
        resolve(true);
      };
    });
  }
}
