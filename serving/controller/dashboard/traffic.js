// Who is hot, and what the caches load and evict for it, over time.
import { read } from "./api.js";
import { draw, plotTimes } from "./charts.js";
import { byId, setText, showFailure, showOptions } from "./elements.js";
import { plural, rate, shorten } from "./notation.js";
import * as slots from "./slots.js";
import * as view from "./view_state.js";

export const section = byId("traffic");
const MAX_NAMED = 7;
const POINTS = 120;
const ADAPTERS = 40;
// [field, name in the legend, colour, which side of zero]: loads rise, evictions hang.
const LOADS = [
  ["loads_disk", "loads from disk", 1, 1], ["loads_cache", "loads from CPU cache", 0, 1],
  ["evictions_slot", "evictions from a slot", 2, -1],
  ["evictions_cache", "evictions from the cache", 4, -1],
];
let shown = null;

export function start(refreshSoon) {
  view.bind(byId("span"), "span");
  view.bind(byId("traffic-engine"), "engine");
  view.onChange((names) => {
    if (names.includes("span")) refreshSoon();
    else if (names.includes("engine") && shown) show(shown);
  });
}

export async function refresh() {
  shown = await read("/v1/capacity/history", {
    seconds: view.get("span"), points: POINTS, adapters: ADAPTERS,
  });
  await Promise.all([show(shown), slots.showHistory(shown)]);
  showFailure(section, null);
}

async function show(history) {
  const engines = Object.keys(history.engines).sort();
  const chosen = view.get("engine");
  const options = [["", "all engines"], ...engines.map((id) => [id, id])];
  // An engine that a link names may be gone: it stays to be chosen away from.
  if (chosen && !engines.includes(chosen)) options.push([chosen, `${chosen} (no samples)`]);
  showOptions(byId("traffic-engine"), options);
  byId("traffic-engine").value = chosen;
  const isEmpty = history.times.length === 0;
  byId("traffic-empty").hidden = !isEmpty;
  section.querySelector(".two").hidden = isEmpty;
  if (isEmpty) return;
  const x = plotTimes(history.times);
  const perMinute = 60 / history.step_seconds;
  const series = loadSeries(history, perMinute);
  const stacks = stackOf(history, perMinute);
  tell(history, stacks, series);
  await Promise.all([
    draw(byId("hot"), (scheme, width) => buildHot(x, stacks, { scheme, width, history })),
    draw(byId("loads"), (scheme) => buildLoads(x, series, { scheme, history })),
  ]);
}

// One list of sums over engines; a step in which no engine was sampled stays unknown.
function addUp(lists, factor = 1) {
  return lists[0].map((_, index) => {
    const known = lists.map((list) => list[index]).filter((value) => value !== null);
    return known.length === 0 ? null : factor * known.reduce((sum, value) => sum + value, 0);
  });
}

function chosenEngines(history) {
  const chosen = view.get("engine");
  return Object.entries(history.engines)
    .filter(([id]) => chosen === "" || id === chosen).map(([, engine]) => engine);
}

function loadSeries(history, perMinute) {
  const engines = chosenEngines(history);
  if (engines.length === 0) return LOADS.map(() => history.times.map(() => null));
  return LOADS.map(([name]) => addUp(engines.map((engine) => engine[name]), perMinute));
}

// The busiest by name, everyone else as one: what all engines counted, less those that are named.
function stackOf(history, perMinute) {
  const named = history.adapters.slice(0, MAX_NAMED);
  const stacks = named.map(({ name, requests }) => ({
    name, values: requests.map((value) => (value === null ? null : value * perMinute)),
  }));
  const engines = Object.values(history.engines);
  if (engines.length === 0) return stacks;
  const total = addUp(engines.map((engine) => engine.requests), perMinute);
  const rest = total.map((value, index) => (value === null ? null
    : Math.max(0, value - stacks.reduce((sum, one) => sum + (one.values[index] ?? 0), 0))));
  if (rest.some((value) => value > 1e-9)) stacks.push({ name: "all others", values: rest, isRest: true });
  return stacks;
}

function tell(history, stacks, series) {
  // The last step is not over yet: what it has so far would read as too little.
  const latest = (list) => list.slice(0, -1).findLast((value) => value !== null) ?? null;
  const total = stacks.map((one) => latest(one.values)).filter((value) => value !== null)
    .reduce((sum, value) => sum + value, 0);
  const hottest = stacks.find((one) => !one.isRest);
  setText(byId("hot-reading"), hottest === undefined ? "No requests in this time."
    : `Now ${rate(total)} requests a minute; the busiest of this time is ${hottest.name}.`);
  const [disk, cache, slot] = series.map(latest);
  const loads = disk === null ? null : disk + (cache ?? 0);
  setText(byId("loads-reading"), `Now ${rate(loads)} loads a minute, ${rate(slot)} evictions from a slot; `
    + `steps of ${plural(Math.round(history.step_seconds), "second", "seconds")}.`);
}

function buildHot(x, stacks, { scheme, width, history }) {
  const most = width < 420 ? 18 : 30;
  const colors = stacks.map(({ isRest }, index) => (isRest ? scheme.rest : scheme.series[index]));
  return {
    legend: stacks.map(({ name }, index) => ({ name, color: colors[index] })),
    traces: stacks.map(({ name, values }, index) => ({
      type: "bar", name: shorten(name, most), x, y: values,
      width: history.step_seconds * 1000, offset: 0,
      marker: { color: colors[index], line: { width: 0 } },
      hovertemplate: "%{y:.3~g}",
    })),
    layout: {
      barmode: "stack", bargap: 0, margin: { b: 36, t: 8 },
      xaxis: { type: "date", range: [x[0], endOf(history)], hoverformat: "%H:%M:%S UTC" },
      yaxis: { title: { text: "requests a minute" }, rangemode: "tozero" },
    },
  };
}

function endOf(history) {
  return plotTimes([history.times.at(-1) + history.step_seconds])[0];
}

function buildLoads(x, series, { scheme, history }) {
  const most = Math.max(1, ...series.flat().map((value) => value ?? 0));
  const step = niceStep(most);
  const ticks = [-3, -2, -1, 0, 1, 2, 3].map((place) => place * step);
  return {
    legend: LOADS.map(([, name, color]) => ({ name, color: scheme.series[color] })),
    traces: LOADS.map(([, name, color, side], index) => ({
      type: "bar", name, x, y: series[index].map((value) => (value === null ? null : side * value)),
      customdata: series[index], hovertemplate: "%{customdata:.3~g}",
      width: history.step_seconds * 1000, offset: 0,
      marker: { color: scheme.series[color], line: { width: 0 } },
    })),
    layout: {
      barmode: "relative", bargap: 0, margin: { b: 36, t: 8 },
      xaxis: { type: "date", range: [x[0], endOf(history)], hoverformat: "%H:%M:%S UTC" },
      yaxis: {
        title: { text: "evictions | loads a minute" }, tickmode: "array", tickvals: ticks,
        ticktext: ticks.map((value) => rate(Math.abs(value))), zerolinecolor: scheme.soft,
      },
    },
  };
}

// 1, 2 or 5 times a power of ten, so that two or three ticks reach the highest bar.
function niceStep(most) {
  const rough = most / 2.5;
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((times) => times * power >= rough);
}
