// What a goal needs: today beside the recommended shape, with reasons and warnings in words.
import { read } from "./api.js";
import { byId, fillList, fillTable, setText, showFailure } from "./elements.js";
import * as curve from "./curve.js";
import { bytes, count, NONE, percent, rate, seconds } from "./notation.js";
import * as residency from "./residency.js";
import * as view from "./view_state.js";

export const section = byId("sizing");
const UNIT = { miss_ratio: "%", added_seconds: "ms" };
const FALLBACK = { miss_ratio: "5", added_seconds: "50" };
let shown = { capacity: null, plan: null };

function goal() {
  const [kind, value] = view.get("goal").split(":");
  return UNIT[kind] ? { kind, value } : { kind: "miss_ratio", value: FALLBACK.miss_ratio };
}

function parametersOf({ kind, value }) {
  const number = Number(value);
  return kind === "miss_ratio"
    ? { target_miss_ratio: number / 100 } : { target_added_seconds: number / 1000 };
}

export function start(refreshSoon) {
  const kind = byId("goal-kind");
  const value = byId("goal-value");
  const show = () => {
    kind.value = goal().kind;
    if (value.value !== goal().value) value.value = goal().value;
    setText(byId("goal-unit"), UNIT[kind.value]);
    showGoalError(kind.value, value.value);
  };
  kind.addEventListener("change", () => view.set({ goal: `${kind.value}:${FALLBACK[kind.value]}` }));
  value.addEventListener("input", () => {
    if (showGoalError(kind.value, value.value)) view.set({ goal: `${kind.value}:${value.value}` });
  });
  byId("goal").addEventListener("submit", (event) => event.preventDefault());
  view.onChange((names) => {
    if (names.includes("goal")) show();
    if (names.includes("goal") || names.includes("window")) refreshSoon();
  });
  show();
  curve.start();
}

function showGoalError(kind, value) {
  const number = Number(value);
  const most = kind === "miss_ratio" ? 100 : 60_000;
  const isGood = value !== "" && number > 0 && number < most;
  const place = byId("goal-error");
  place.hidden = isGood;
  setText(place, isGood ? "" : `A goal is above 0 and below ${count(most)} ${UNIT[kind]}.`);
  return isGood;
}

export async function refresh() {
  const chosen = view.get("window");
  const wanted = { ...parametersOf(goal()), window: chosen };
  const [capacity, plan] = await Promise.allSettled([
    // The table of adapters is another panel's: it asks for a page of it.
    read("/v1/capacity", { window: chosen, adapters: 0 }),
    read("/v1/capacity/plan", wanted),
  ]);
  if (capacity.status === "rejected") throw capacity.reason;
  if (plan.status === "rejected" && plan.reason.isRefused) throw plan.reason;
  shown = { capacity: capacity.value, plan: plan.status === "fulfilled" ? plan.value : shown.plan };
  residency.show(capacity.value.residency);
  await curve.show(shown);
  if (shown.plan !== null) showPlan(shown.plan);
  if (plan.status === "rejected") throw plan.reason;
  showFailure(section, null);
}

const COLUMNS = [
  { title: "", isHead: true, text: (row) => row.title },
  { title: "today", kind: "number", text: (row) => row.now },
  { title: "recommended", kind: "number", text: (row) => row.then, className: (row) => row.tone },
];

function rowsOf({ now, recommended, predicted }) {
  const shape = [["engines", "engines"], ["GPU slots of each", "gpu_slots"],
    ["CPU cache of each", "cpu_slots"], ["highest rank", "max_rank"]]
    .map(([title, name]) => row(title, now[name], recommended?.[name], count));
  const cost = [["requests that miss", "miss_ratio", percent],
    ["loads a minute", "loads_per_minute", rate], ["added to a request", "added_seconds", seconds]]
    .map(([title, name, write]) => row(title, now[name], predicted?.[name], write));
  const memory = [
    { title: "memory of one slot", now: NONE, then: bytes(predicted?.slot_bytes), tone: "" },
    { title: "KV tokens given up", now: NONE, then: count(predicted?.kv_tokens_lost), tone: "" },
  ];
  return [...shape, ...cost, ...memory];
}

function row(title, now, then, write) {
  const isOther = then !== null && then !== undefined && now !== then;
  return { title, now: write(now), then: write(then), tone: isOther ? "changed" : "" };
}

function showPlan(plan) {
  fillTable(byId("plan"), COLUMNS, rowsOf(plan), { key: (one) => one.title });
  byId("plan-thin").hidden = plan.is_enough_data;
  showWords("reasons", plan.reasons);
  showWords("warnings", plan.warnings.map((warning) => warning.text));
  const isNew = plan.recommended !== null && !isAsToday(plan);
  byId("plan-how").hidden = !isNew;
  if (isNew) setText(byId("plan-command"), commandOf(plan.recommended));
}

function showWords(id, texts) {
  byId(id).parentElement.hidden = texts.length === 0;
  fillList(byId(id), texts);
}

function isAsToday({ now, recommended }) {
  return Object.entries(recommended).every(([name, value]) => now[name] === value);
}

function commandOf({ engines, gpu_slots: gpu, cpu_slots: cpu, max_rank: rank }) {
  return `--engines ${engines} --gpu-slots ${gpu} --cpu-slots ${cpu} --max-rank ${rank}`;
}
