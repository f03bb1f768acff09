import { byId, closest, inputById, onClick, part, tabStorage } from "../browser.js";
import { send } from "../requests.js";

/** The menus that break pods on purpose; only where the server has the lab. */
export class Lab {
  #happenings;

  /** @param {import("../pods.js").Happenings} happenings */
  constructor(happenings) {
    this.#happenings = happenings;
    onClick(byId("pods"), (target) => {
      const { action } = target.dataset;
      const menu = closest(target, "details");
      const { pod } = closest(target, "[data-pod]")?.dataset ?? {};
      if (!action || !menu || !pod) return;
      /** @type {HTMLDetailsElement} */ (menu).open = false;
      part(menu, "summary").focus();
      this.#act(pod, action, (target.textContent ?? "").trim());
    });
  }

  /** @param {string} pod @param {string} action @param {string} words @returns {Promise<void>} */
  async #act(pod, action, words) {
    const token = tabStorage["guestbook.token"];
    const answer = await send("POST", `/lab/${encodeURIComponent(pod)}/${action}`, { token });
    if (!answer) this.#happenings.add("unreachable");
    else if (answer.ok) this.#happenings.add("asked", { pod, action: words });
    else if (answer.status !== 401) this.#happenings.add(answer.body?.detail ?? "unreachable");
    else if (await this.#askForToken(token)) await this.#act(pod, action, words);
  }

  /** @param {string | undefined} wrong @returns {Promise<boolean>} */
  #askForToken(wrong) {
    const dialog = /** @type {HTMLDialogElement} */ (byId("token"));
    const input = inputById("token-value");
    delete tabStorage["guestbook.token"];
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
        tabStorage["guestbook.token"] = value;
        resolve(true);
      };
    });
  }
}
