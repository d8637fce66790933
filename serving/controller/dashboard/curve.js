// Miss-ratio curve: what every number of slots would have meant for the window's requests.
import { byId, setText } from "./elements.js";
import { draw } from "./charts.js";
import { count, percent, plural, rate, seconds } from "./notation.js";
import * as view from "./view_state.js";

const MAX_ENGINE_LINES = 4;
let shown = null;

export function start() {
  view.bind(byId("window"), "window");
  view.bind(byId("log-slots"), "log");
  view.onChange((names) => names.includes("log") && shown && show(shown));
  byId("read-slots").addEventListener("input", () => {
    byId("read-slots").dataset.isChosen = "1";
    if (shown) tell(shown);
  });
}

// capacity: GET /v1/capacity; plan: GET /v1/capacity/plan or null while it is not known.
export function show({ capacity, plan }) {
  shown = { capacity, plan };
  const hasCurve = capacity.fleet !== null && capacity.fleet.n_requests > 0;
  byId("curve-empty").hidden = hasCurve;
  byId("curve").hidden = !hasCurve;
  byId("curve-reading").closest(".reading").hidden = !hasCurve;
  if (!hasCurve) return Promise.resolve();
  tell(shown);
  return draw(byId("curve"), (scheme, width) => build(shown, scheme, width));
}

function marksOf({ capacity, plan }) {
  const today = Math.max(0, ...capacity.engines.map((engine) => engine.gpu_slots)) || null;
  return { today, advised: plan?.recommended?.gpu_slots ?? null };
}

function pointAt(curve, slots) {
  return curve.points.findLast((point) => point.slots <= slots) ?? null;
}

function tell({ capacity, plan }) {
  const input = byId("read-slots");
  const { today, advised } = marksOf({ capacity, plan });
  if (!input.dataset.isChosen) input.value = advised ?? today ?? 1;
  const slots = Number(input.value);
  const point = slots >= 1 ? pointAt(capacity.fleet, slots) : null;
  const words = point === null ? "choose 1 or more" : [
    `${percent(point.miss_ratio)} of requests miss`,
    `${rate(point.loads_per_minute)} loads a minute`,
    `${seconds(point.added_seconds)} added to a request on average`,
  ].join(", ");
  setText(byId("curve-reading"), words);
  setText(byId("curve-caption"),
    "Requests that had to wait for a load, by the number of GPU slots of each engine: "
    + `${plural(capacity.fleet.n_requests, "request", "requests")} to `
    + `${plural(capacity.fleet.n_names, "version", "versions")}`);
}

function lineOf(curve, name, style) {
  return {
    type: "scatter", mode: "lines", name,
    x: curve.points.map((point) => point.slots),
    y: curve.points.map((point) => (point.miss_ratio === null ? null : point.miss_ratio * 100)),
    customdata: curve.points.map((point) => [
      percent(point.miss_ratio), rate(point.loads_per_minute), seconds(point.added_seconds)]),
    hovertemplate: "%{customdata[0]} miss · %{customdata[1]} loads/min · +%{customdata[2]}",
    ...style,
  };
}

function build({ capacity, plan }, scheme, width) {
  const { today, advised } = marksOf({ capacity, plan });
  const engines = capacity.engines.filter((engine) => engine.curve !== null);
  const lines = engines.length > 1 && engines.length <= MAX_ENGINE_LINES
    ? engines.map((engine, index) => lineOf(engine.curve, engine.engine, {
      line: { color: scheme.series[(index + 1) % scheme.series.length], width: 1.5, dash: "dot" },
    })) : [];
  const fleet = lineOf(capacity.fleet, "fleet", { line: { color: scheme.series[0], width: 3 } });
  const isLog = view.get("log") === "1";
  const last = lastUseful(capacity.fleet, today, advised);
  return {
    traces: [...lines, fleet],
    legend: lines.length === 0 ? [] : [...lines, fleet].map(({ name, line }) => ({
      name, color: line.color, isLine: true,
    })),
    layout: {
      margin: { t: 40, r: 16, b: 46 },
      xaxis: {
        type: isLog ? "log" : "linear", range: isLog ? [-0.02, Math.log10(last)] : [0, last],
        ...(isLog ? ticksUpTo(last, width) : {}), unifiedhovertitle: { text: "<b>%{x} slots</b>" },
        title: { text: isLog ? "GPU slots of an engine (logarithmic)" : "GPU slots of an engine" },
      },
      yaxis: { title: { text: "requests that miss" }, ticksuffix: " %", rangemode: "tozero" },
      ...marks(today, advised, { scheme, isLog, last }),
    },
  };
}

// Beyond the adapters that there are, the curve is flat: nothing is left to see.
function lastUseful(curve, today, advised) {
  const last = curve.points.at(-1)?.slots ?? 1;
  const useful = Math.max(4, curve.n_names * 1.1, (today ?? 0) * 1.3, (advised ?? 0) * 1.3);
  return Math.max(2, Math.min(last, useful));
}

function ticksUpTo(last, width) {
  const all = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];
  const step = width < 420 && last > 64 ? 2 : 1;
  const tickvals = all.filter((value, index) => value <= last && index % step === 0);
  return { tickmode: "array", tickvals, ticktext: tickvals.map((value) => count(value)) };
}

function marks(today, advised, { scheme, isLog, last }) {
  const isSame = today !== null && today === advised;
  const places = [
    today === null ? null : {
      at: today, text: isSame ? `today and recommended: ${today}` : `today: ${today}`,
      color: isSame ? scheme.good : scheme.soft, dash: "dash",
    },
    advised === null || isSame ? null : {
      at: advised, text: `recommended: ${advised}`, color: scheme.good, dash: "solid",
    },
  ].filter((place) => place !== null);
  const along = (slots) => (isLog ? Math.log(slots) / Math.log(last) : slots / last);
  return {
    shapes: places.map(({ at, color, dash }) => ({
      type: "line", x0: at, x1: at, y0: 0, y1: 1, yref: "paper", line: { color, width: 1.5, dash },
    })),
    annotations: places.map(({ at, text, color }, index) => ({
      x: isLog ? Math.log10(at) : at, y: 1, yref: "paper", yanchor: "bottom", showarrow: false,
      text, font: { color, size: 12 },
      // Each on a line of its own, grown towards the middle: they never meet and are never cut.
      yshift: index * 16, xanchor: along(at) > 0.55 ? "right" : "left",
    })),
  };
}
