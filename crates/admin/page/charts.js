// Charts of the last five minutes, by uPlot. Colours come from the style sheet each time they are drawn, so that they follow it.

import { byId, make, write } from "./dom.js";
import { bytesText, ms, percent, rate } from "./format.js";

const POINTS = 300;
const HEIGHT = 150;
/** Seconds that a chart shows at least. */
const SPAN_MIN = 60;
const CORE_COLOURS = ["--a", "--b", "--c", "--d"];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A chart in `#id`: series [{ label, colour, value }] over time. */
class Chart {
  constructor(id, series, { log = false, most, floor, axis = (value) => compact.format(value) } = {}) {
    this.box = byId(id);
    this.box.setAttribute("role", "img");
    this.series = series;
    this.data = [[], ...series.map(() => [])];
    const grid = { stroke: () => colour("--faint"), width: 1 };
    const text = { stroke: () => colour("--quiet"), font: "11px system-ui, sans-serif", grid, ticks: { show: false } };
    const range = log
      ? (self, least, largest) => [Math.min(floor, least ?? floor), Math.max(10, (largest ?? 1) * 1.5)]
      : (self, least, largest) => [0, most ?? Math.max(1, (largest ?? 0) * 1.1)];
    this.plot = new uPlot({
      width: Math.max(200, this.box.clientWidth),
      height: HEIGHT,
      padding: [8, null, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "inrush" } },
      scales: { x: { time: true, range: (self, from, to) => from === null ? [0, SPAN_MIN] : [Math.min(from, to - SPAN_MIN), to] }, y: log ? { distr: 3, range } : { range } },
      axes: [
        { ...text, space: 76, size: 22, values: (self, marks) => marks.map(clock) },
        { ...text, size: 44, space: 28, values: (self, marks) => marks.map((mark) => mark === null ? "" : axis(mark)) },
      ],
      series: [
        {},
        ...series.map((one) => ({ label: one.label, stroke: () => colour(one.colour), width: 1.5, points: { show: false }, spanGaps: false })),
      ],
      legend: { show: false },
      hooks: { setCursor: [() => this.legend()] },
    }, this.data, this.box);
    // The legend shows the newest values, or those under the pointer.
    this.values = series.map(() => make("b", {}, "–"));
    this.at = make("span", { class: "at" });
    const keys = series.map((one, index) => make("span", {}, make("i", { class: one.colour.slice(2) }), `${one.label} `, this.values[index]));
    this.box.append(make("div", { class: "legend", "aria-hidden": "true" }, ...keys, this.at));
    new ResizeObserver(() => this.fit()).observe(this.box);
  }

  fit() {
    const width = Math.floor(this.box.clientWidth);
    if (width > 0 && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  legend() {
    const times = this.data[0];
    const pointed = this.plot?.cursor.idx;
    const index = pointed ?? times.length - 1;
    if (!this.values || index < 0) return;
    this.series.forEach((one, at) => write(this.values[at], one.value(this.data[at + 1][index])));
    write(this.at, pointed === null || pointed === undefined ? "" : clock(times[index]));
  }

  add(at, values) {
    this.data.forEach((list, index) => {
      list.push(index === 0 ? at : values[index - 1] ?? null);
      if (list.length > POINTS) list.shift();
    });
    this.plot.setData(this.data);
    this.legend();
    const last = this.series.map((one, index) => `${one.label} ${one.value(values[index])}`);
    this.box.setAttribute("aria-label", last.join(", "));
  }

  clear() {
    this.data.forEach((list) => { list.length = 0; });
    this.plot.setData(this.data);
  }
}

/** All charts: `add(sample)`, `redraw()` for another style, `pick(phase)`. */
export class Charts {
  constructor(sample) {
    this.phase = "total";
    this.kept = [];
    this.messages = new Chart("chart-messages", [
      { label: "accepted", colour: "--a", value: rate },
      { label: "refused", colour: "--b", value: rate },
    ]);
    const latency = (label, name) => ({ label, colour: name, value: (value) => value === null || value === undefined ? "–" : ms(value / 1000) });
    this.latency = new Chart("chart-latency", [latency("p50", "--c"), latency("p90", "--a"), latency("p99", "--b")], { log: true, floor: 0.1, axis: (value) => Math.log10(value) % 1 === 0 ? compact.format(value) : "" });
    this.cores = new Chart("chart-cores", sample.cores.map((_, core) => ({
      label: `core ${core}`, colour: CORE_COLOURS[core % CORE_COLOURS.length],
      value: (value) => value === null || value === undefined ? "–" : percent(value / 100),
    })), { most: 100 });
    this.log = new Chart("chart-log", [
      { label: "written", colour: "--a", value: (value) => value === null || value === undefined ? "–" : `${bytesText(value * 1048576)}/s` },
      { label: "received", colour: "--c", value: (value) => value === null || value === undefined ? "–" : `${bytesText(value * 1048576)}/s` },
    ]);
    this.all = [this.messages, this.latency, this.cores, this.log];
  }

  add(sample) {
    const { at, rates } = sample;
    this.kept.push([at, sample.phases]);
    if (this.kept.length > POINTS) this.kept.shift();
    this.messages.add(at, [rates.accepted, rates.refused]);
    this.latency.add(at, this.quantiles(sample.phases));
    this.cores.add(at, sample.cores.map((core) => core.busy === null ? null : core.busy * 100));
    this.log.add(at, [rates.log_written_bytes / 1048576, rates.received_bytes / 1048576]);
  }

  quantiles(phases) {
    const of = phases[this.phase];
    return of ? [of.p50_seconds, of.p90_seconds, of.p99_seconds].map((seconds) => Math.max(0.001, seconds * 1000)) : [null, null, null];
  }

  pick(phase) {
    this.phase = phase;
    this.latency.clear();
    for (const [at, phases] of this.kept) this.latency.add(at, this.quantiles(phases));
  }

  /** Another server, or the same one started anew: what was before does not belong to it. */
  clear() {
    this.kept = [];
    this.all.forEach((chart) => chart.clear());
  }

  redraw() { this.all.forEach((chart) => chart.plot.redraw(false, true)); }
}
