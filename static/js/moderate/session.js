import { bus, byId, inputById, main, part, tabStorage } from "../browser.js";
import { send } from "../requests.js";

const TOKEN = "guestbook.token";

/** The moderator's token: it stays in the tab, and in no address. */
class Session {
  /** Sign in with the token from before a reload, once all parts listen. */
  start() {
    const form = byId("sign-in");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      tabStorage[TOKEN] = inputById("admin-token").value.trim();
      if (this.token) this.#signIn();
      else this.signOut(401);
    });
    if (this.token) this.#signIn();
    else byId("admin-token").focus();
    // Before that, submitting the form would load the page again without the token.
    part(form, "button").toggleAttribute("disabled", false);
  }

  get token() {
    return tabStorage[TOKEN] ?? "";
  }

  get isSignedIn() {
    return "signedIn" in main.dataset;
  }

  async #signIn() {
    const answer = await this.send("GET", "/control");
    const problem = byId("sign-in-problem");
    if (answer?.isRefused) return;
    if (!answer?.ok) {
      problem.textContent = problem.dataset.unreachable ?? "";
      // The page was reloaded meanwhile.
      setTimeout(() => this.token && !this.isSignedIn && this.#signIn(), 3_000);
      return;
    }
    problem.textContent = "";
    inputById("admin-token").value = "";
    main.dataset.signedIn = "true";
    bus.emit("signedIn", answer.body);
  }

  /** Sign out; decisions are kept for the next sign-in. @param {number} [status] */
  signOut(status) {
    const problem = byId("sign-in-problem");
    const { off, expired, wrong } = problem.dataset;
    const why = status === 403 ? off : this.isSignedIn ? expired : wrong;
    problem.textContent = (status && why) || "";
    tabStorage[TOKEN] = "";
    delete main.dataset.signedIn;
    bus.emit("signedOut", undefined);
    byId("admin-token").focus();
  }

  /** @param {number} status */
  refuses(status) {
    const isRefused = status === 401 || status === 403;
    if (isRefused) this.signOut(status);
    return isRefused;
  }

  /** @param {string} method @param {string} path @param {RequestOptions} [options] */
  async send(method, path, options) {
    const answer = await send(method, path, { ...options, token: this.token });
    return answer && { ...answer, isRefused: this.refuses(answer.status) };
  }
}

export const session = new Session();
