// Every version with its counts: searched, sorted and paged by the controller, so that ten thousand
// cost the page no more than ten.
import { read } from "./api.js";
import { byId, fillButton, fillTable, setText, showFailure } from "./elements.js";
import { TONE } from "./health.js";
import { count, NONE, seconds, shortCount } from "./notation.js";
import * as view from "./view_state.js";

export const section = byId("adapters");
const table = byId("adapter-table");
const SEARCH_PAUSE_MILLISECONDS = 200;
// Texts begin at the start of the alphabet, numbers with the largest.
const TEXT_FIELDS = new Set(["name", "state", "verdict"]);
let total = 0;

const number = (title, sort, text, about) => ({ title, sort, text, about, kind: "number" });

function where(row) {
  if (row.active_on.length > 0) return `slot on ${row.active_on.join(", ")}`;
  return row.cached_on.length > 0 ? `cache of ${row.cached_on.join(", ")}` : NONE;
}

const COLUMNS = [
  {
    title: "version", sort: "name", isHead: true,
    fill: (cell, row) => fillButton(cell, row.name, {
      "data-adapter": `${row.tenant}/${row.adapter}`,
      "aria-pressed": String(view.get("adapter") === `${row.tenant}/${row.adapter}`),
    }),
  },
  {
    title: "state", sort: "state", text: (row) => row.state ?? "unknown", kind: "state",
    className: (row) => TONE[row.state] ?? "",
  },
  {
    title: "last verdict", sort: "verdict", text: (row) => row.verdict ?? NONE, kind: "state",
    className: (row) => TONE[row.verdict] ?? "",
  },
  number("requests", "requests", (row) => count(row.requests)),
  number("prompt tokens", "prompt_tokens", (row) => shortCount(row.prompt_tokens)),
  number("answer tokens", "completion_tokens", (row) => shortCount(row.completion_tokens)),
  number("TTFT p50", "ttft_p50_seconds", (row) => seconds(row.ttft_p50_seconds), "time to the first token"),
  number("TTFT p99", "ttft_p99_seconds", (row) => seconds(row.ttft_p99_seconds), "time to the first token"),
  number("inter-token p99", "inter_token_p99_seconds", (row) => seconds(row.inter_token_p99_seconds),
    "mean time between two tokens of one answer"),
  number("loads disk", "loads_disk", (row) => count(row.loads_disk)),
  number("loads cache", "loads_cache", (row) => count(row.loads_cache)),
  number("evicted slot", "evictions_slot", (row) => count(row.evictions_slot)),
  number("evicted cache", "evictions_cache", (row) => count(row.evictions_cache)),
  number("failed loads", "failures", (row) => count(row.failures)),
  number("in a slot", "slot_seconds", (row) => seconds(row.slot_seconds), "time, over all engines"),
  number("mean wait", "wait_seconds", (row) => seconds(row.requests ? row.wait_seconds / row.requests : null),
    "for memory and a slot, of one request; sorted by the sum"),
  number("rank", "rank", (row) => count(row.rank)),
  {
    title: "held in", text: where,
    className: (row) => (row.is_pinned ? "kept" : ""),
    hint: (row) => (row.is_pinned ? "kept on purpose" : ""),
  },
];

export function start(refreshSoon) {
  view.bind(byId("search"), "search", { onEvent: "input" });
  view.bind(byId("rows"), "rows");
  let pause = null;
  byId("adapter-search").addEventListener("submit", (event) => event.preventDefault());
  table.addEventListener("click", (event) => {
    const sort = event.target.closest("[data-sort]");
    if (sort !== null) sortBy(sort.dataset.sort);
    const chosen = event.target.closest("[data-adapter]");
    if (chosen !== null) view.set({ adapter: chosen.dataset.adapter });
  });
  byId("page-before").addEventListener("click", () => turn(-1));
  byId("page-after").addEventListener("click", () => turn(1));
  view.onChange((names) => {
    if (names.includes("search") || names.includes("rows")) view.set({ page: "1" });
    if (names.some((name) => ["search", "rows", "sort", "order", "page", "adapter"].includes(name))) {
      clearTimeout(pause);
      pause = setTimeout(refreshSoon, names.includes("search") ? SEARCH_PAUSE_MILLISECONDS : 0);
    }
  });
}

function sortBy(field) {
  const isSame = view.get("sort") === field;
  const first = TEXT_FIELDS.has(field) ? "asc" : "desc";
  const turned = view.get("order") === "asc" ? "desc" : "asc";
  view.set({ sort: field, order: isSame ? turned : first, page: "1" });
}

function pageNow() {
  return Math.max(1, Math.floor(Number(view.get("page"))) || 1);
}

function turn(step) {
  const last = Math.max(1, Math.ceil(total / Number(view.get("rows"))));
  view.set({ page: String(Math.min(last, Math.max(1, pageNow() + step))) });
}

export async function refresh() {
  const limit = Number(view.get("rows")) || 25;
  const offset = (pageNow() - 1) * limit;
  const [sort, order, search] = ["sort", "order", "search"].map(view.get);
  const page = await read("/v1/capacity/adapters", { search, sort, order, limit, offset });
  // Fewer pages than before: the last one is shown.
  if (page.adapters.length === 0 && page.total > 0) return view.set({ page: "1" });
  total = page.total;
  fillTable(table, COLUMNS, page.adapters, { key: (row) => row.name, sorted: { by: sort, order } });
  showPages(page, { offset, limit });
  showFailure(section, null);
}

function showPages({ adapters }, { offset, limit }) {
  const last = offset + adapters.length;
  byId("page-before").disabled = offset === 0;
  byId("page-after").disabled = last >= total;
  byId("page-before").parentElement.hidden = total <= limit && offset === 0 && total === 0;
  setText(byId("page-where"), total === 0 ? "" : `${count(offset + 1)} to ${count(last)} of ${count(total)}`);
  const empty = byId("adapters-empty");
  empty.hidden = total > 0;
  if (view.get("search")) setText(empty, `No version's name has "${view.get("search")}" in it.`);
  else if (total === 0) setText(empty, "No adapter yet: loraplane push DIR --tenant T --adapter A --wait");
}

