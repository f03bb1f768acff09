// Modules of two versions may not fit together: see README.md.

/** @returns {Promise<typeof import("./page.js")>} */
async function load(failures = 0) {
  const hash = Math.random().toString(16).slice(2, 14).padEnd(12, "0");
  try {
    return await import(failures ? `../../${hash}/js/page.js` : "./page.js");
  } catch (error) {
    if (failures === 8) throw error;
    await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** failures * (1 + Math.random())));
    return load(failures + 1);
  }
}

load().then(({ start }) => start());
