// The stream of samples: kept up, taken up again when it breaks, and off while nobody sees the page.

import { Refused, stream } from "./server.js";

const SILENCE_MS = 6_000;
const AGAIN_MS = [500, 1_000, 2_000, 5_000];

/** `on`: sample(object), state(word, sentence), login(). Gives back { start, stop }. */
export function live(on) {
  let abort = null;
  let silence = 0;
  let failures = 0;
  let wanted = false;
  let again = 0;

  const watch = () => {
    clearTimeout(silence);
    silence = setTimeout(() => abort?.abort("silence"), SILENCE_MS);
  };

  async function run() {
    abort = new AbortController();
    const own = abort;
    let why = "the stream has ended";
    watch();
    try {
      await stream("events", own.signal, (name, data) => {
        watch();
        if (name !== "sample") return;
        failures = 0;
        // A mistake of the page is not one of the connection.
        try { on.sample(JSON.parse(data)); } catch (error) { console.error(error); }
      });
    } catch (error) {
      if (error instanceof Refused && error.status === 401) { clearTimeout(silence); wanted = false; on.login(); return; }
      why = error instanceof Refused ? error.message : "no answer from the server";
    }
    clearTimeout(silence);
    if (!wanted || own !== abort) return;
    on.state("lost", why);
    again = setTimeout(run, AGAIN_MS[Math.min(failures, AGAIN_MS.length - 1)]);
    failures += 1;
  }

  return {
    start() {
      if (wanted) return;
      wanted = true;
      failures = 0;
      run();
    },
    stop() {
      wanted = false;
      clearTimeout(again);
      clearTimeout(silence);
      const last = abort;
      abort = null;
      last?.abort("stopped");
    },
  };
}
