// Search for messages, the whole life of one, and what can be done with those that wait.

import { ask, byId, fill, make, tell, write } from "./dom.js";
import { bytesText, count, time } from "./format.js";
import { change, read } from "./server.js";

const DONE = { flush: "will be tried now", hold: "are held", release: "are released" };

/** Asks how many are meant, then whether it is meant, then does it. */
export async function act(action, parameters, what) {
  const say = (sentence) => { tell(sentence); write(byId("search-told"), sentence); };
  try {
    const all = Object.values(parameters).every((value) => !value);
    const { count: fitting } = await read("queue", { ...parameters, count: "true" });
    const entries = fitting === 1 ? "1 message" : `${count(fitting)} messages`;
    if (fitting === 0) { say(what ? `Nothing of ${what} waits in the queue.` : "It does not wait in the queue any more."); return false; }
    const of = what ? ` of ${what}` : "";
    const word = action[0].toUpperCase() + action.slice(1);
    const text = {
      flush: `${entries}${of} will be tried now.`,
      hold: `${entries}${of} will be kept back until somebody releases ${fitting === 1 ? "it" : "them"}.`,
      release: `Of ${entries}${of}, those that are held will be tried again.`,
    }[action];
    if (!await ask(`${word} ${entries}?`, `${text} A message with several destinations counts once for each.`, word)) { say("Nothing was changed."); return false; }
    const answer = await change(`queue/${action}`, all ? { all: "true" } : parameters);
    say(`${count(answer.done)} of ${count(answer.found)} ${DONE[action]}.`);
    return true;
  } catch (error) {
    say(`Not done: ${error.message}`);
    return false;
  }
}

const step = (when, ...what) => make("li", {}, make("span", {}, when), make("span", {}, ...what));

function received(life) {
  const session = life.session ?? {};
  const parts = [session.protocol, `by ${session.listener}`, session.client && `from ${session.client}`, session.client_name, session.helo && `helo=${session.helo}`,
    session.tls_version && `${session.tls_version} ${session.tls_cipher ?? ""}`, session.user && `user=${session.user}`];
  const phases = Object.entries(life.phases ?? {}).sort(([, a], [, b]) => a < b ? -1 : 1);
  return [make("p", {}, parts.filter(Boolean).join(" · ")), make("ul", { class: "steps" }, phases.map(([name, at]) => step(time(at), name.replace("_", " "))))];
}

function attempts(life) {
  return make("ul", { class: "steps" }, life.attempts.map((one) => {
    const head = [one.what.replace("_", " "), one.destination, one.relay && `relay=${one.relay}`, one.tls && `tls=${one.tls}`].filter(Boolean).join(" · ");
    const results = one.results.map((result) => make("div", {},
      `<${result.address}> ${result.status} ${result.dsn} ${result.reply}${result.next_attempt ? `, next attempt ${time(result.next_attempt)}` : ""}${result.sender_told ? ", sender told" : ""}`));
    return step(time(one.at), make("div", {}, head), ...results);
  }));
}

async function showLife(id) {
  const box = byId("life");
  try {
    const life = await read(`messages/${id}`);
    const actions = life.queue.length === 0 ? [] : ["flush", "hold", "release"].map((action) => make("button", {
      type: "button", class: "small", "data-action": action,
      click: async () => { if (await act(action, { id }, "")) showLife(id); },
    }, action[0].toUpperCase() + action.slice(1)));
    const recipients = life.recipients.map((one) => make("li", {},
      make("span", {}, [one.status, one.dsn].filter(Boolean).join(" ")), make("span", {}, `<${one.address}> ${one.reply ?? ""}`)));
    const waits = life.queue.map((one) => step(one.state, `for ${one.destination}${one.next_attempt ? `, next attempt ${time(one.next_attempt)}` : ""}${one.reason ? `: ${one.reason}` : ""}`));
    box.replaceChildren(
      make("h3", { id: "h-life" }, `Message ${life.id}`),
      make("p", {}, `from <${life.sender ?? ""}>${life.octets === undefined ? "" : `, ${bytesText(life.octets)}`}${life.in_log ? "" : ", no longer in the log: this is what its deliveries have left"}`),
      make("p", {}, ...actions),
      ...(life.in_log ? [make("h3", {}, "Came in"), ...received(life)] : []),
      make("h3", {}, "Recipients"), make("ul", { class: "steps" }, recipients),
      ...(life.attempts.length > 0 ? [make("h3", {}, "Attempts and commands"), attempts(life)] : []),
      ...(waits.length > 0 ? [make("h3", {}, "Waits"), make("ul", { class: "steps" }, waits)] : []),
    );
  } catch (error) {
    box.replaceChildren(make("h3", { id: "h-life" }, `Message ${id}`), make("p", { class: "bad" }, error.message));
  }
  box.hidden = false;
  box.focus();
}

const CUT = { time: "the time for a search was over", octets: "a search reads no more of the log" };

/** What was found so far, and how a search goes on. */
let found = [];
let next = null;

function showFound() {
  fill(byId("found"), found.map((one) => ({
    cells: [
      { nodes: { key: one.id, make: () => [make("button", { type: "button", class: "small", "data-id": one.id, click: () => showLife(one.id) }, one.id)] } },
      time(one.accepted_at), one.octets === null ? "–" : count(one.octets), { text: one.sender === "" ? "<>" : one.sender, class: "text word", title: one.sender },
      { text: one.recipients.slice(0, 3).join(", ") + (one.recipients_total > 3 ? ` and ${one.recipients_total - 3} more` : ""), class: "text word", title: one.recipients.join(", ") },
      { text: one.state.replace("_", " "), class: "text" },
    ],
  })));
  byId("found-box").hidden = found.length === 0;
}

function begun(form) {
  const parameters = Object.fromEntries(["id", "sender", "recipient"].map((name) => [name, form.elements[name].value.trim()]).filter(([, value]) => value));
  // An id has one spelling.
  if (parameters.id) parameters.id = parameters.id.toUpperCase();
  byId("life").hidden = true;
  found = [];
  showFound();
  if (Object.keys(parameters).length === 0) { byId("further").hidden = true; write(byId("search-told"), "Say an id, a sender or a recipient."); return; }
  search(parameters);
}

async function search(parameters) {
  const told = byId("search-told");
  const further = byId("further");
  further.hidden = true;
  write(told, "Searching the queue and the log …");
  try {
    const answer = await read("messages", { ...parameters, limit: "50" });
    const known = new Set(found.map((one) => one.id));
    found.push(...answer.messages.filter((one) => !known.has(one.id)));
    showFound();
    const { octets, since } = answer.looked_at;
    const looked = parameters.id ? "" : ` ${bytesText(octets)} of log looked at${since ? `, all since ${time(since)}` : ""}`;
    const end = answer.cut ? `; not all of it: ${CUT[answer.cut]}.` : parameters.id ? "" : ".";
    write(told, `${found.length === 0 ? "Nothing found" : `${count(found.length)} found${answer.more ? ", and there are more" : ""}`}.${looked}${end}`);
    next = since && (answer.cut || answer.more) && since !== parameters.until ? { ...parameters, until: since } : null;
    further.hidden = next === null;
    if (found.length === 1 && next === null) showLife(found[0].id);
  } catch (error) {
    write(told, `No answer: ${error.message}`);
  }
}

export function begin() {
  const form = byId("search");
  form.addEventListener("submit", (event) => { event.preventDefault(); begun(form); });
  byId("further").addEventListener("click", () => { if (next) search(next); });
}
