// The page's life: a token is entered, panels are read every few seconds while somebody looks.
import * as adapterTable from "./adapter_table.js";
import { token } from "./api.js";
import * as audit from "./audit.js";
import { prepare } from "./charts.js";
import { byId, setClass, setText, showFailure } from "./elements.js";
import * as health from "./health.js";
import { clock } from "./notation.js";
import * as plan from "./plan.js";
import * as residency from "./residency.js";
import * as theme from "./theme.js";
import * as timeline from "./timeline.js";
import * as traffic from "./traffic.js";

const REFRESH_MILLISECONDS = 3000;
const panels = [health, plan, traffic, adapterTable, timeline];
const reading = new Map();
let timer = null;
let isOpen = false;

// One reading of a panel at a time; what was asked for meanwhile is read right after.
async function refreshPanel(panel) {
  const current = reading.get(panel);
  if (current !== undefined) {
    current.again = true;
    return current.done;
  }
  const entry = { again: false };
  reading.set(panel, entry);
  entry.done = (async () => {
    try {
      do {
        entry.again = false;
        await panel.refresh();
        showFailure(panel.section, null);
      } while (entry.again && isOpen);
      return null;
    } catch (error) {
      return error;
    } finally {
      reading.delete(panel);
    }
  })();
  return entry.done;
}

async function refreshAll() {
  clearTimeout(timer);
  const errors = await Promise.all(panels.map(refreshPanel));
  if (!isOpen) return;
  const refused = errors.find((error) => error?.isRefused);
  if (refused) return close(refused.message);
  panels.forEach((panel, index) => report(panel, errors[index]));
  sayState(errors.filter((error) => error !== null));
  clearTimeout(timer);
  timer = setTimeout(refreshAll, REFRESH_MILLISECONDS);
}

function report(panel, error) {
  if (error === null) return;
  // Programming errors belong in the console, with their place.
  if (error.status === undefined) console.error(error);
  showFailure(panel.section, error.message);
}

function sayState(errors) {
  const now = `${clock(Date.now() / 1000)} UTC`;
  const lost = errors.find((error) => error.status === null);
  const isLost = lost !== undefined;
  const text = errors.length === 0 ? `Read at ${now}.`
    : isLost ? `${lost.message} What is below may be old.`
      : "Some panels could not be read; they say so.";
  setText(byId("status"), text);
  setClass(byId("status"), errors.length === 0 ? "" : "bad");
  setClass(byId("content"), isLost ? "stale" : "");
  byId("alarm").hidden = !isLost;
  setText(byId("alarm"), isLost ? `${lost.message} Numbers below are from before.` : "");
}

async function refreshSoon(panel) {
  if (!isOpen) return;
  const error = await refreshPanel(panel);
  if (error?.isRefused) close(error.message);
  else report(panel, error);
}

function open() {
  isOpen = true;
  byId("login").hidden = true;
  byId("content").hidden = byId("forget").hidden = byId("ways").hidden = false;
  setText(byId("status"), "Reading …");
  setClass(byId("status"), "");
  audit.start();
  prepare();
  refreshAll();
}

function close(reason) {
  isOpen = false;
  clearTimeout(timer);
  audit.forget();
  token.forget();
  byId("login").hidden = false;
  byId("content").hidden = byId("forget").hidden = byId("ways").hidden = true;
  setText(byId("status"), reason || "Not connected.");
  setClass(byId("status"), reason ? "bad" : "");
  byId("token").focus();
}

// Nobody looks at a hidden tab: it asks for nothing until it is seen again.
function watchVisibility() {
  document.addEventListener("visibilitychange", () => {
    if (!isOpen) return;
    if (document.hidden) {
      clearTimeout(timer);
      audit.stop();
    } else {
      audit.start();
      refreshAll();
    }
  });
}

// Their address stays what is being looked at, so a jump within the page is made by hand.
function jump(event) {
  const link = event.target.closest("[data-target]");
  if (link === null) return;
  event.preventDefault();
  const target = byId(link.dataset.target);
  if (target.hidden) return byId("token").focus();
  target.scrollIntoView();
  return target.focus({ preventScroll: true });
}

function start() {
  theme.start(byId("theme"));
  residency.start();
  for (const panel of [plan, traffic, adapterTable, timeline]) {
    panel.start(() => refreshSoon(panel));
  }
  document.addEventListener("click", jump);
  byId("login").addEventListener("submit", (event) => {
    event.preventDefault();
    token.keep(byId("token").value.trim());
    byId("token").value = "";
    open();
    byId("content").focus({ preventScroll: true });
  });
  byId("forget").addEventListener("click", () => close());
  watchVisibility();
  if (token.isKnown()) open();
  else byId("token").focus();
}

start();
