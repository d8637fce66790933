// One adapter's versions: where each was and when, why, and what its gate said.
import { openReport, pathOfAdapter, read } from "./api.js";
import { draw, plotTimes } from "./charts.js";
import { byId, fillButton, fillTable, setText, showFailure } from "./elements.js";
import { TONE } from "./health.js";
import { bytes, count, moment, NONE, seconds } from "./notation.js";
import * as view from "./view_state.js";

export const section = byId("versions");
const MAX_DRAWN = 12;
const MAX_EVENTS = 200;
const ROW_PIXELS = 34;
// version name -> {since, moves}: a version's moves are read again when it has moved.
const known = new Map();

const COLUMNS = [
  { title: "version", isHead: true, text: (row) => `@${row.version}` },
  { title: "state", kind: "state", text: (row) => row.state, className: (row) => TONE[row.state] ?? "" },
  {
    title: "verdict", kind: "state", text: (row) => row.verdict ?? NONE,
    className: (row) => TONE[row.verdict] ?? "",
  },
  {
    title: "report",
    fill: (cell, row) => fillButton(cell, row.verdict === null ? null : "report", {
      "data-version": row.version, "aria-label": `Report of ${row.name}`,
    }),
  },
  { title: "why", kind: "wide", text: (row) => why(row) ?? NONE },
  { title: "rank", kind: "number", text: (row) => count(row.rank) },
  { title: "size", kind: "number", text: (row) => bytes(row.size_bytes) },
  { title: "uploaded", text: (row) => moment(row.created_at), hint: (row) => `by ${row.created_by}` },
  { title: "in this state since", text: (row) => moment(row.state_since) },
  { title: "last live", text: (row) => moment(row.live_since) },
];

function why(version) {
  const findings = version.findings.map((finding) => finding.code).join(", ");
  const error = version.error && (version.error.detail || version.error.code);
  const stage = version.progress && version.progress.stage;
  const recheck = version.recheck && version.recheck.verdict && version.recheck.verdict !== "PASS"
    ? `re-check: ${version.recheck.verdict}` : null;
  const override = version.override_reason
    ? `promoted by ${version.override_by} all the same: ${version.override_reason}` : null;
  const words = [findings, error, stage, recheck, override].filter(Boolean);
  return words.length === 0 ? null : words.map(String).join("; ");
}

export function start(refreshSoon) {
  byId("version-table").addEventListener("click", (event) => {
    const button = event.target.closest("[data-version]");
    if (button !== null) showReport(Number(button.dataset.version));
  });
  view.onChange((names) => {
    if (names.includes("adapter")) refreshSoon();
  });
}

function showReport(version) {
  const [tenant, adapter] = view.get("adapter").split("/");
  openReport({ tenant, adapter, version }).then(
    () => showFailure(section, null), (error) => showFailure(section, error.message));
}

export async function refresh() {
  const chosen = view.get("adapter");
  const [tenant, adapter] = chosen.split("/");
  const isChosen = Boolean(tenant && adapter);
  byId("versions-empty").hidden = isChosen;
  byId("versions-shown").hidden = !isChosen;
  setText(byId("h-versions"), isChosen ? `Versions of ${chosen}` : "Versions");
  if (!isChosen) return showFailure(section, null);
  const { versions, live } = await read(pathOfAdapter(tenant, adapter));
  // Another one may have been chosen while this one was read.
  if (view.get("adapter") !== chosen) return undefined;
  fillTable(byId("version-table"), COLUMNS, versions, { key: (row) => row.name });
  const drawn = versions.slice(0, MAX_DRAWN);
  const moves = await Promise.all(drawn.map(movesOf));
  if (view.get("adapter") !== chosen) return undefined;
  const hidden = versions.length - drawn.length;
  setText(byId("timeline-caption"), `Where each version was, and when; the alias leads to ${
    live === null ? "none" : `@${live}`}${hidden > 0 ? `; ${count(hidden)} older ones are in the table` : ""}`);
  byId("timeline").style.height = `${drawn.length * ROW_PIXELS + 50}px`;
  await draw(byId("timeline"), (scheme) => build(drawn, moves, scheme));
  return showFailure(section, null);
}

// [{state, from, to, actor, reason}] of one version, oldest first.
async function movesOf(version) {
  const before = known.get(version.name);
  if (before !== undefined && before.since === version.state_since) return before.moves;
  const { events } = await read("/v1/events", { subject: version.name, limit: MAX_EVENTS });
  const steps = events.filter((event) => event.to !== null && event.to !== event.from).reverse();
  const moves = steps.map((event, index) => ({
    state: event.to, from: event.at, to: steps[index + 1]?.at ?? null,
    actor: event.actor, reason: event.reason,
  }));
  known.set(version.name, { since: version.state_since, moves });
  return moves;
}

function build(versions, moves, scheme) {
  const now = Date.now() / 1000;
  const states = new Map();
  moves.forEach((list, index) => {
    for (const move of list) {
      // A retired version's bar would go on for ever and say nothing.
      if (move.state === "retired") continue;
      const bars = states.get(move.state) ?? [];
      states.set(move.state, [...bars, { ...move, row: `@${versions[index].version}` }]);
    }
  });
  const colorOf = (state) => scheme.states[state] ?? scheme.rest;
  return {
    legend: [...states.keys()].map((state) => ({ name: state, color: colorOf(state) })),
    traces: [...states].map(([state, bars]) => ({
      type: "bar", orientation: "h", name: state, y: bars.map((bar) => bar.row),
      base: bars.map((bar) => plotTimes([bar.from])[0]),
      x: bars.map((bar) => 1000 * Math.max((bar.to ?? now) - bar.from, 0)),
      customdata: bars.map((bar) => [moment(bar.from), seconds((bar.to ?? now) - bar.from),
        [bar.actor, bar.reason].filter(Boolean).join(": ")]),
      hovertemplate: "%{y} %{fullData.name} for %{customdata[1]}<br>since %{customdata[0]} UTC"
        + "<br>%{customdata[2]}<extra></extra>",
      marker: { color: colorOf(state), line: { width: 0 } },
    })),
    layout: {
      barmode: "overlay", bargap: 0.35, hovermode: "closest",
      margin: { t: 6, b: 38, l: 40 }, xaxis: { type: "date" },
      yaxis: {
        type: "category", showgrid: false, ticks: "", categoryorder: "array",
        categoryarray: versions.map((version) => `@${version.version}`).reverse(),
      },
    },
  };
}
