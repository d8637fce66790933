// The fleet at a glance: is the controller ready, does every engine follow, what is stuck or out.
import { read } from "./api.js";
import { byId, fillList, fillTable, keyed, make, setClass, setText } from "./elements.js";
import { age, count, moment, plural, shortCount } from "./notation.js";

export const TONE = {
  live: "good", ready: "good", passed: "good", proven: "good", PASS: "good",
  rejected: "bad", failed: "bad", FAIL: "bad", unreachable: "bad", quarantined: "bad",
  inconclusive: "open", INCONCLUSIVE: "open", validating: "open", evaluating: "open",
  staging: "open", starting: "open", waiting_for_gate: "open", stopping: "open",
};

export const section = byId("fleet");

function slots(used, all) {
  return `${count(used)} of ${count(all)}`;
}

const ENGINE_COLUMNS = [
  { title: "engine", isHead: true, text: (row) => row.id },
  {
    title: "state", kind: "state", text: (row) => row.state.replaceAll("_", " "),
    className: (row) => TONE[row.state], hint: (row) => row.waits_for ?? "",
  },
  { title: "revision", kind: "number", text: (row) => count(row.revision) },
  {
    title: "behind", kind: "number", text: (row) => count(row.lag),
    className: (row) => (row.lag > 0 ? "open" : ""), about: "snapshot revisions not yet followed",
  },
  { title: "slots used", kind: "number", text: (row) => slots(row.n_active, row.gpu_slots) },
  { title: "cached", kind: "number", text: (row) => slots(row.n_cached, row.cpu_slots) },
  { title: "kept", kind: "number", text: (row) => count(row.n_pinned), about: "in a slot on purpose" },
  {
    title: "hot 1 m / 5 m / 1 h", kind: "number", about: "different adapters that were used",
    text: (row) => ["1m", "5m", "1h"].map((window) => count(row.hot[window])).join(" / "),
  },
  { title: "proven", kind: "number", text: (row) => count(row.n_held) },
  {
    title: "out", kind: "number", text: (row) => count(row.n_out),
    className: (row) => (row.n_out > 0 ? "bad" : ""), about: "versions failed or quarantined here",
  },
  {
    title: "heard of", text: (row) => row.heard, className: (row) => TONE[row.state],
    hint: (row) => `${moment(row.seen_at)} UTC`,
  },
  { title: "build", text: (row) => `${row.build}, ${row.dtype}`, className: () => "soft" },
];

const KIND = { out: "out of service", refused: "refused", under_way: "under way" };
const KIND_TONE = { out: "bad", refused: "bad", under_way: "open" };
const TROUBLE_COLUMNS = [
  { title: "version", isHead: true, text: (row) => row.name },
  {
    title: "what", kind: "state", text: (row) => KIND[row.kind],
    className: (row) => KIND_TONE[row.kind],
  },
  { title: "state", kind: "state", text: (row) => row.state, className: (row) => TONE[row.state] },
  {
    title: "verdict", kind: "state", text: (row) => row.verdict ?? "–",
    className: (row) => TONE[row.verdict] ?? "",
  },
  { title: "why", kind: "wide", text: (row) => row.why ?? "–" },
  { title: "engines", text: (row) => row.engines.join(", ") || "–" },
  {
    title: "since", text: (row) => row.age, hint: (row) => (row.since ? `${moment(row.since)} UTC` : ""),
  },
];

const STATE_ORDER = [
  "validating", "evaluating", "staging", "live", "superseded", "passed", "inconclusive", "failed",
  "rejected", "retired",
];

function factsOf(fleet) {
  const ready = fleet.engines.filter((engine) => engine.state === "ready").length;
  const lag = Math.max(0, ...fleet.engines.map((engine) => engine.lag));
  const sum = (name) => fleet.engines.reduce((total, engine) => total + engine[name], 0);
  const out = sum("n_out");
  const all = fleet.engines.length;
  return [
    ["controller", fleet.is_ready ? "ready" : fleet.reasons.join(", "), fleet.is_ready ? "good" : "bad",
      `snapshot revision ${count(fleet.revision)}`],
    ["engines ready", slots(ready, all), ready === all && all > 0 ? "good" : "bad",
      lag === 0 ? "all follow" : `up to ${plural(lag, "revision", "revisions")} behind`],
    ["versions live", shortCount(fleet.versions.live), "",
      stateWords(fleet.versions, ["superseded", "passed"])],
    ["slots used", slots(sum("n_active"), sum("gpu_slots")), "",
      `${slots(sum("n_cached"), sum("cpu_slots"))} cached`],
    ["under way", shortCount(["validating", "evaluating", "staging"]
      .reduce((total, state) => total + fleet.versions[state], 0)), "",
    stateWords(fleet.versions, ["validating", "evaluating", "staging"])],
    ["out of service", count(out), out > 0 ? "bad" : "good",
      stateWords(fleet.versions, ["failed", "rejected", "inconclusive"])],
  ];
}

function stateWords(versions, states) {
  const words = STATE_ORDER.filter((state) => states.includes(state) && versions[state] > 0)
    .map((state) => `${shortCount(versions[state])} ${state}`);
  return words.join(", ") || `none ${states[0]}`;
}

function showFacts(fleet) {
  keyed(byId("facts"), factsOf(fleet), {
    key: ([title]) => title,
    create: ([title]) => make("div", { className: "fact" },
      make("dt", { text: title }), make("dd"), make("dd", { className: "about" })),
    update: (node, [, value, tone, about]) => {
      setText(node.children[1], value);
      setClass(node.children[1], tone ? `value ${tone}` : "value");
      setText(node.children[2], about);
    },
  });
}

export async function refresh() {
  const fleet = await read("/v1/fleet");
  showFacts(fleet);
  const engines = fleet.engines.map((engine) => ({ ...engine, heard: age(engine.seen_at, fleet.at) }));
  fillTable(byId("engines"), ENGINE_COLUMNS, engines, { key: (row) => row.id });
  byId("engines-empty").hidden = engines.length > 0;
  const troubles = fleet.troubles.map((one) => ({ ...one, age: age(one.since, fleet.at) }));
  fillTable(byId("troubles"), TROUBLE_COLUMNS, troubles, {
    key: (row) => `${row.kind} ${row.state} ${row.name}`,
  });
  byId("troubles-empty").hidden = troubles.length > 0;
  const left = fleet.n_troubles - troubles.length;
  setText(byId("troubles").caption, left === 0
    ? "Versions that wait, were refused, or are out on an engine"
    : `The first ${count(troubles.length)} of ${count(fleet.n_troubles)} versions in trouble`);
  showWarnings(engines);
}

// An engine whose vLLM is not the one that was expected counts less, and one of a new build may wait
// for a person; that must be seen.
function showWarnings(engines) {
  const texts = engines.flatMap((engine) => Object.entries(engine.unhooked)
    .map(([hook, why]) => `${engine.id} does not measure ${hook}: ${why}`));
  texts.push(...engines.filter((engine) => engine.waits_for)
    .map((engine) => `${engine.id} waits for the gate: ${engine.waits_for}`));
  let list = section.querySelector("ul.warnings");
  if (list === null) {
    if (texts.length === 0) return;
    list = make("ul", { className: "warnings" });
    byId("engines-empty").after(list);
  }
  fillList(list, texts);
}
