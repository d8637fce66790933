// Reads the API with the token that was entered, every few seconds. Texts are only ever set as text.
"use strict";

const REFRESH_MILLISECONDS = 3000;
const TOKEN = "loraplane-token";
const STYLE = {
  live: "live", ready: "good", passed: "good", PASS: "good", proven: "good",
  rejected: "bad", failed: "bad", FAIL: "bad", unreachable: "bad", quarantined: "bad",
  inconclusive: "wait", INCONCLUSIVE: "wait", validating: "wait", evaluating: "wait",
  staging: "wait", starting: "wait",
};
const $ = (id) => document.getElementById(id);
let timer = null;

async function read(path) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(TOKEN)}` };
  const response = await fetch(path, { headers, cache: "no-store" });
  const body = await response.json();
  if (!response.ok) throw Object.assign(new Error(body.detail), { status: response.status });
  return body;
}

function cell(value, kind) {
  const element = document.createElement("td");
  const empty = value === null || value === undefined || value === "";
  element.textContent = empty ? "none" : String(value);
  if (value instanceof Node) element.replaceChildren(value);
  else if (empty) element.className = "none";
  else if (kind === "state") element.className = STYLE[value] || "";
  else if (kind) element.className = kind;
  return element;
}

function fill(id, columns, rows) {
  const head = document.createElement("tr");
  for (const [title, kind] of columns) {
    const element = document.createElement("th");
    element.scope = "col";
    element.textContent = title;
    if (kind === "number") element.className = "number";
    head.append(element);
  }
  const lines = rows.map((row) => {
    const line = document.createElement("tr");
    line.append(...columns.map(([, kind], index) => cell(row[index], kind)));
    return line;
  });
  $(id).replaceChildren(head, ...lines);
}

function showEngines(engines) {
  const columns = [["engine"], ["state", "state"], ["revision", "number"], ["GPU slots used"],
    ["cached"], ["hot 1m", "number"], ["hot 5m", "number"], ["hot 1h", "number"], ["build"]];
  fill("engines", columns, engines.map(({ id, state, report }) => [
    id, state, report.revision, `${report.active.length} of ${report.gpu_slots}`,
    `${report.cached.length} of ${report.cpu_slots}`, report.hot["1m"] ?? 0,
    report.hot["5m"] ?? 0, report.hot["1h"] ?? 0, report.build,
  ]));
}

function why(version) {
  const blocking = version.findings.map((finding) => finding.code).join(", ");
  const error = version.error && (version.error.detail || version.error.code || version.error.reason);
  const stage = version.progress && version.progress.stage;
  const text = version.override_reason ? `override: ${version.override_reason}` : "";
  const recheck = version.recheck && version.recheck.verdict && version.recheck.verdict !== "PASS"
    ? `re-check: ${version.recheck.verdict}, ${version.recheck.reason.changed.join(", ")} changed` : "";
  const value = blocking || error || stage || recheck || text;
  return typeof value === "object" && value ? JSON.stringify(value) : value;
}

// The API wants the token in a header, which a plain link cannot send.
async function openReport(version, tab) {
  const path = `/v1/tenants/${version.tenant}/adapters/${version.adapter}/versions/${version.version}/report`;
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(TOKEN)}`, Accept: "text/html" };
  const response = await fetch(path, { headers, cache: "no-store" });
  if (!response.ok) throw new Error((await response.json()).detail);
  const page = new Blob([await response.text()], { type: "text/html;charset=utf-8" });
  tab.location.replace(URL.createObjectURL(page));
}

function reportButton(version) {
  if (!version.verdict) return null;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "link";
  button.textContent = "report";
  button.setAttribute("aria-label", `Report of ${version.name}`);
  button.addEventListener("click", () => {
    const tab = window.open("", "_blank");
    openReport(version, tab).catch((error) => {
      tab.close();
      say(error.message, true);
    });
  });
  return button;
}

function showAdapters(adapters) {
  const columns = [["version"], ["state", "state"], ["verdict", "state"], ["report"],
    ["rank", "number"], ["on engines"], ["why", "wide"], ["since"]];
  fill("adapters", columns, adapters.flatMap((adapter) => adapter.versions.map((version) => [
    version.name, version.state, version.verdict, reportButton(version), version.rank,
    version.engines.map((on) => `${on.engine}: ${on.state}`).join(", "), why(version),
    when(version.state_since),
  ])));
}

function showCounts(engines) {
  const names = ["requests", "loads_disk", "loads_cache", "evictions_slot", "evictions_cache"];
  const total = new Map();
  for (const { report } of engines) {
    for (const item of report.counts) {
      const sums = total.get(item.name) || names.map(() => 0);
      total.set(item.name, sums.map((sum, index) => sum + (item[names[index]] || 0)));
    }
  }
  const rows = [...total].sort((one, two) => two[1][0] - one[1][0]);
  const columns = [["version"], ...names.map((name) => [name.replace("_", " "), "number"])];
  fill("counts", columns, rows.map(([name, sums]) => [name, ...sums]));
}

function showEvents(events) {
  const columns = [["at"], ["who"], ["what"], ["subject"], ["from", "state"], ["to", "state"],
    ["why", "wide"]];
  fill("events", columns, events.map((event) => [when(event.at), event.actor, event.action,
    event.subject, event.from, event.to, event.reason]));
}

function when(seconds) {
  return new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 19);
}

async function refresh() {
  try {
    const [engines, adapters, events] = await Promise.all([
      read("/v1/engines"), read("/v1/adapters"), read("/v1/events?limit=30"),
    ]);
    showEngines(engines.engines);
    showAdapters(adapters.adapters);
    showCounts(engines.engines);
    showEvents(events.events);
    say(`Read at ${when(Date.now() / 1000)} UTC.`);
    $("login").hidden = true;
    $("content").hidden = $("forget").hidden = false;
  } catch (error) {
    say(`${error.message} What is below may be old.`, true);
    if (error.status === 401 || error.status === 403) return forget(error.message);
  }
  timer = setTimeout(refresh, REFRESH_MILLISECONDS);
}

function say(text, isBad) {
  $("status").textContent = text;
  $("status").className = isBad ? "bad" : "";
}

function forget(reason) {
  clearTimeout(timer);
  sessionStorage.removeItem(TOKEN);
  $("login").hidden = false;
  $("content").hidden = $("forget").hidden = true;
  say(reason || "Not connected.", Boolean(reason));
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  refresh();
});
$("forget").addEventListener("click", () => forget());
if (sessionStorage.getItem(TOKEN)) refresh();
