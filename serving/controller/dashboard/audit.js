// The audit trail as it is written. The token goes in a header, so the stream is a fetch.
import { follow, read } from "./api.js";
import { byId, fillTable, setClass, setText } from "./elements.js";
import { TONE } from "./health.js";
import { moment, NONE } from "./notation.js";

export const section = byId("audit");
const MAX_ROWS = 200;
const AGAIN_MILLISECONDS = 3000;
let rows = [];
let lastId = null;
let running = null;

const COLUMNS = [
  { title: "at (UTC)", text: (row) => moment(row.at) },
  { title: "who", text: (row) => row.actor },
  { title: "what", text: (row) => row.action },
  { title: "subject", isHead: true, text: (row) => row.subject },
  { title: "from", kind: "state", text: (row) => row.from ?? NONE, className: (row) => TONE[row.from] ?? "" },
  { title: "to", kind: "state", text: (row) => row.to ?? NONE, className: (row) => TONE[row.to] ?? "" },
  { title: "why", kind: "wide", text: (row) => row.reason ?? NONE },
];

export function start() {
  if (running !== null) return;
  running = new AbortController();
  run(running.signal);
}

export function stop() {
  if (running === null) return;
  running.abort();
  running = null;
  say("paused", "");
}

export function forget() {
  stop();
  rows = [];
  lastId = null;
}

async function run(signal) {
  while (!signal.aborted) {
    try {
      if (lastId === null) await begin();
      // An empty trail has no last row: 0 is before the first.
      await follow(`/v1/events?after=${lastId}`, {
        signal, onOpen: () => say("live", "good"), onEvent: add,
      });
    } catch (error) {
      if (signal.aborted) return;
      if (error.isRefused) return;
      say(`${error.message} What is below may be old.`, "bad");
    }
    await new Promise((resolve) => {
      setTimeout(resolve, AGAIN_MILLISECONDS);
      signal.addEventListener("abort", resolve, { once: true });
    });
  }
}

async function begin() {
  const { events, last_id: last } = await read("/v1/events", { limit: MAX_ROWS });
  rows = events;
  lastId = last;
  show();
}

function add(event) {
  if (event.id <= lastId) return;
  lastId = event.id;
  rows = [event, ...rows].slice(0, MAX_ROWS);
  show();
}

function show() {
  fillTable(byId("audit-table"), COLUMNS, rows, { key: (row) => row.id });
  byId("audit-empty").hidden = rows.length > 0;
}

function say(text, tone) {
  setText(byId("audit-state"), text);
  setClass(byId("audit-state"), `lead ${tone}`);
}
