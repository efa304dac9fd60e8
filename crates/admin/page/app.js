// The dashboard: one stream of samples, a few questions now and then, nothing from anywhere else.

import { Charts } from "./charts.js";
import { ask, byId, make, tell, write } from "./dom.js";
import { live } from "./live.js";
import { act, begin as beginMessages } from "./messages.js";
import { inOrder, show, showSessions, showTalkers } from "./panels.js";
import { change, forgetToken, keepToken, read } from "./server.js";

/** How often what the stream does not carry is asked for, while it is seen. */
const ASK_MS = 3_000;

let charts = null;
let paused = false;
let started = 0;
let sessionsShown = false;
let talkersOffered = true;

// Colours: those of the system, or the ones that were chosen; kept in this browser.
const theme = byId("theme");
function colours(choice) {
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  charts?.redraw();
}
theme.value = ["light", "dark"].includes(localStorage.getItem("inrush-theme")) ? localStorage.getItem("inrush-theme") : "auto";
colours(theme.value);
theme.addEventListener("change", () => { localStorage.setItem("inrush-theme", theme.value); colours(theme.value); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts?.redraw());

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  tell(paused ? "Paused" : "Goes on");
});

function phases(sample) {
  const pick = byId("phase");
  for (const name of inOrder(sample.phases)) {
    if (![...pick.options].some((option) => option.value === name)) pick.append(make("option", { value: name }, name.replace("_", " ")));
  }
  if (pick.options.length === 0) pick.append(make("option", { value: "total" }, "total"));
  const wanted = [...pick.options].some((option) => option.value === charts.phase) ? charts.phase : pick.value;
  if (pick.value !== wanted) pick.value = wanted;
}
byId("phase").addEventListener("change", () => charts?.pick(byId("phase").value));

const stream = live({
  sample(sample) {
    document.body.classList.remove("stale");
    if (paused) return;
    const begun = sample.at - sample.uptime_seconds;
    if (charts && Math.abs(begun - started) > 5) charts.clear();
    if (!charts || Math.abs(begun - started) > 5) offers();
    started = begun;
    charts ??= new Charts(sample);
    charts.add(sample);
    phases(sample);
    const news = show(sample, act);
    if (news) tell(news);
  },
  state(word, sentence) {
    document.body.classList.add("stale");
    byId("state").className = "state warn";
    const text = `no connection: ${sentence}`;
    if (byId("state-word").textContent !== text) { write(byId("state-word"), text); tell(text); }
  },
  login,
});

function login() {
  const dialog = byId("login");
  forgetToken();
  if (!dialog.open) dialog.showModal();
  byId("token").focus();
}
byId("login-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  keepToken(byId("token").value.trim());
  try {
    await read("status");
  } catch (error) {
    forgetToken();
    write(byId("login-told"), error.status === 401 ? "That is not the token." : error.message);
    byId("token").select();
    return;
  }
  byId("token").value = "";
  write(byId("login-told"), "");
  byId("login").close();
  stream.start();
});

// Drain and reload, where the server offers them.
async function offers() {
  try {
    const { offers: offered = [] } = await read("status");
    for (const name of ["drain", "reload"]) byId(name).hidden = !offered.includes(name);
  } catch { /* the stream says what is wrong */ }
}
const WORDS = {
  drain: ["Drain this server?", "It takes no new connection, lets running transactions finish and ends. Whatever supervises it may start it again.", "Drain"],
  reload: ["Reload the configuration?", "The configuration is read again, as by SIGHUP. No session is dropped.", "Reload"],
};
for (const name of ["drain", "reload"]) {
  byId(name).addEventListener("click", async () => {
    if (!await ask(...WORDS[name])) return;
    try { await change(name); tell(`${name}: done`); write(byId("search-told"), `${name}: done`); } catch (error) { tell(`${name}: ${error.message}`); write(byId("search-told"), `${name}: ${error.message}`); }
  });
}

byId("sessions-toggle").addEventListener("click", () => {
  sessionsShown = !sessionsShown;
  const button = byId("sessions-toggle");
  button.setAttribute("aria-expanded", String(sessionsShown));
  write(button, sessionsShown ? "Hide" : "Show");
  byId("sessions-box").hidden = !sessionsShown;
  if (sessionsShown) sessions(); else write(byId("sessions-told"), "");
});
async function sessions() {
  try { showSessions(await read("sessions", { limit: "100" })); } catch (error) { write(byId("sessions-told"), error.message); }
}
async function talkers() {
  try {
    showTalkers(await read("talkers", { by: byId("talkers-by").value, limit: "12" }));
    byId("talkers").hidden = false;
  } catch (error) {
    byId("talkers").hidden = true;
    // Not part of this server.
    if (error.status === 404) talkersOffered = false;
  }
}
byId("talkers-by").addEventListener("change", talkers);

let asking = 0;
function askNow() {
  if (document.hidden || paused || document.body.classList.contains("stale") || !charts) return;
  if (sessionsShown) sessions();
  if (talkersOffered) talkers();
}

// A page that nobody sees costs the server nothing.
function seen() {
  clearInterval(asking);
  if (document.hidden) { stream.stop(); return; }
  stream.start();
  asking = setInterval(askNow, ASK_MS);
}
document.addEventListener("visibilitychange", seen);
beginMessages();
seen();
