// What each part of the page shows of a sample.

import { byId, fill, make, pairs, write } from "./dom.js";
import { age, bytes, bytesText, count, ms, percent, rate } from "./format.js";

const TEXT = "text";
/** As they follow one another in a session; what is not known comes behind. */
const ORDER = ["banner", "tls", "ehlo", "mail", "rcpt", "data", "bdat", "other", "body", "queue_wait", "commit", "total"];
export const inOrder = (phases) => Object.keys(phases).sort((a, b) => (ORDER.indexOf(a) + 99) % 99 - (ORDER.indexOf(b) + 99) % 99);

function figures(sample) {
  const { rates, totals, connections, phases, queue, process, log } = sample;
  const full = connections.limit > 0 && connections.open / connections.limit > 0.9;
  const entries = [
    ["Accepted", [rate(rates.accepted), "/s"], "", `${count(totals.accepted)} in all`],
    ["Refused", [rate(rates.refused), "/s"], rates.refused > rates.accepted && rates.refused > 1 ? "warn" : "", `${count(totals.refused)} in all`],
    ["Mail data", [...bytes(rates.message_bytes)].map((part, index) => index ? `${part}/s` : part), "", `${bytesText(totals.message_bytes)} in all`],
    ["Answer p99", [ms(phases.total?.p99_seconds), "ms"], "", "MAIL to the 250"],
    ["Sessions", [count(connections.open), ""], full ? "warn" : "", `of ${count(connections.limit)}, ${rate(rates.connections)}/s new`],
    ["Processor", [process.cpu.toFixed(2), "cores"], "", `${bytesText(process.resident_memory_bytes)} resident`],
    ["Disk free", bytes(log.free_bytes), log.space_low > 0 || log.no_space > 0 ? "bad" : "", `${bytesText(rates.log_written_bytes)}/s written`],
  ];
  if (queue) entries.splice(4, 0, ["Queue", [count(queue.deferred), "deferred"], queue.destinations_down > 0 ? "warn" : "", `${count(queue.held)} held, ${count(queue.destinations_down)} down`]);
  pairs(byId("figures"), entries);
}

function phases(sample) {
  const rows = inOrder(sample.phases).map((name) => [name, sample.phases[name]]).map(([name, of]) => ({
    class: name === "total" ? "total" : "", cells: [name.replace("_", " "), rate(of.count / Math.max(sample.phases_window_seconds, 0.001)), ms(of.p50_seconds), ms(of.p90_seconds), ms(of.p99_seconds), ms(of["p99.9_seconds"]), ms(of.max_seconds)],
  }));
  fill(byId("phases"), rows, "nothing in the last seconds");
  write(byId("window"), `ms, last ${Math.round(sample.phases_window_seconds)} s`);
}

function refusals(sample) {
  const rows = sample.refusals.map((one) => ({ class: one.rate === 0 ? "dim" : "", cells: [one.reason, rate(one.rate), count(one.total)] }));
  fill(byId("refusals"), rows);
}

function cores(sample) {
  const rows = sample.cores.map((core, index) => ({
    cells: [
      String(index), core.engine ?? "–",
      {
        nodes: {
          key: "bar",
          make: () => [make("span", { class: "bar", "aria-hidden": "true" }, make("span")), make("span", { class: "value" })],
          update(cell) {
            cell.querySelector(".bar > span").style.width = `${Math.round((core.busy ?? 0) * 100)}%`;
            write(cell.querySelector(".value"), percent(core.busy));
          },
        },
      },
      count(core.connections_open), rate(core.accepted),
    ],
  }));
  fill(byId("cores"), rows);
}

function log({ log: of, rates }) {
  const yes = (number, word) => number > 0 ? [`${count(number)} ${word}`, "bad"] : ["none", ""];
  const furthest = of.furthest_consumer;
  const entries = [
    ["Batches", [rate(rates.log_batches), "/s"]],
    ["Records in a batch", rates.log_batches > 0 ? (rates.log_records / rates.log_batches).toFixed(1) : "–"],
    ["Not yet durable", bytes(of.durable_lag_bytes)],
    ["Segments", count(of.segments)],
    ["Sealed", bytes(of.sealed_bytes)],
    ["Spares ready", count(of.spares_ready), of.spares_ready === 0 ? "warn" : ""],
    ["Logs in trouble", ...yes(of.poisoned + of.hung + of.no_space, "logs")],
  ];
  if (furthest) entries.push([`Furthest back: ${furthest.name}`, bytes(furthest.lag_bytes)]);
  pairs(byId("log"), entries);
}

/** The queue; `act(action, parameters, what)` asks and does it. */
function queue(sample, act) {
  const of = sample.queue;
  byId("queue").hidden = !of;
  if (!of) return;
  pairs(byId("queue-figures"), [
    ["deferred", count(of.deferred)], ["held", count(of.held)], ["under way", count(of.under_way)], ["connections", count(of.connections)],
    ["destinations down", count(of.destinations_down), of.destinations_down > 0 ? "warn" : ""], ["in memory", bytesText(of.memory_bytes)],
  ]);
  const routes = Object.entries(of.routes).map(([name, counts]) => ({
    cells: [name || "(no route)", rate(counts.sent?.rate ?? 0), count(counts.sent?.total ?? 0), count(counts.deferred?.total ?? 0), count(counts.bounced?.total ?? 0), count(counts.expired?.total ?? 0)],
  }));
  fill(byId("routes"), routes, "nothing has been delivered yet");
  const destinations = (of.destinations ?? []).map((one) => ({
    cells: [
      { text: one.destination || "(no route)", class: "word", title: one.destination },
      { text: one.down ? "down" : one.connections > 0 ? `${one.connections} conn.` : "idle", class: one.down ? "bad" : "" },
      count(one.waiting), count(one.held), one.oldest_at ? age(sample.at - one.oldest_at) : "–",
      { text: one.last_reply ?? "", class: `${TEXT} long` },
      {
        nodes: {
          key: `${one.route}:${one.domain}`,
          make: () => ["flush", "hold", "release"].map((action) => make("button", {
            type: "button", class: "small", "data-action": action,
            "aria-label": `${action} ${one.destination}`,
            click: () => act(action, { route: one.route, domain: one.domain }, one.destination),
          }, action[0].toUpperCase() + action.slice(1))),
        },
      },
    ],
  }));
  fill(byId("destinations"), destinations, "nothing waits");
}

function head(sample) {
  const state = byId("state");
  const pressed = Object.entries(sample.pressure).map(([name, level]) => `${name} ${level}`);
  const [kind, word] = !sample.ready ? ["bad", "not ready"] : pressed.length > 0 ? ["warn", `ready, under pressure: ${pressed.join(", ")}`] : ["good", "ready"];
  const last = byId("state-word").textContent;
  state.className = `state ${kind}`;
  write(byId("state-word"), word);
  write(byId("about"), `${sample.version} · up ${age(sample.uptime_seconds)}`);
  const reasons = byId("reasons");
  const key = sample.reasons.join("\n");
  if (reasons.dataset.key !== key) {
    reasons.dataset.key = key;
    reasons.replaceChildren(...sample.reasons.map((reason) => make("li", {}, reason)));
    reasons.hidden = sample.reasons.length === 0;
  }
  document.title = sample.ready ? `${rate(sample.rates.accepted)}/s · inrush` : "NOT READY · inrush";
  return last === word ? null : `${word}. ${sample.reasons.join(". ")}`;
}

/** Shows a sample; a sentence when the state has changed. */
export function show(sample, act) {
  figures(sample);
  phases(sample);
  refusals(sample);
  cores(sample);
  log(sample);
  queue(sample, act);
  return head(sample);
}

export function showSessions(answer) {
  const rows = answer.sessions.map((one) => ({
    cells: [
      { text: one.client, class: "word" }, age(one.age_seconds), { text: one.listener, class: `${TEXT} word` }, String(one.core),
      { text: one.tls ?? "–", class: TEXT }, { text: one.phase, class: TEXT }, { text: one.last_command ?? "–", class: TEXT },
      count(one.messages), bytesText(one.octets),
    ],
  }));
  fill(byId("sessions"), rows, "no session is open");
  const silent = answer.silent_cores.length > 0 ? `, cores ${answer.silent_cores.join(", ")} have not answered` : "";
  write(byId("sessions-told"), `${count(answer.sessions.length)} of ${count(answer.open)}, the oldest first${silent}`);
}

export function showTalkers(answer) {
  const rows = answer.talkers.map((one) => ({
    cells: [{ text: one.name, class: "word" }, count(one.messages), count(one.refusals), bytesText(one.bytes), count(one.over_by_at_most)],
  }));
  fill(byId("talkers-table"), rows, "nobody yet");
  write(byId("talkers-window"), `last ${age(answer.window_seconds)}`);
}
