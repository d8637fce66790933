// Light or dark: the system's choice unless a person chose; plots ask here for the page's colours.

const KEPT = "loraplane-theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

// Okabe and Ito's colours, told apart by colour-blind people; darker or lighter by theme so that
// lines stand out by 3:1, without the yellow that is lost on white.
const SERIES = {
  light: ["#0072b2", "#d55e00", "#009e73", "#b6579a", "#c98600", "#3a9bdc", "#7a5230"],
  dark: ["#56b4e9", "#ff8a3d", "#2fc99a", "#e08fc4", "#f0b429", "#9bd4f5", "#c39a6b"],
};
const REST = { light: "#b7bdc7", dark: "#59616d" };
const STATES = {
  light: {
    validating: "#c9d6e2", evaluating: "#3a9bdc", staging: "#c98600", live: "#009e73",
    passed: "#8fd0b8", superseded: "#7d93ad", retired: "#d3d7dd", inconclusive: "#b6579a",
    failed: "#d55e00", rejected: "#9c3d00", uploading: "#e4e7eb",
  },
  dark: {
    validating: "#44566a", evaluating: "#56b4e9", staging: "#f0b429", live: "#2fc99a",
    passed: "#1f7a60", superseded: "#6f87a3", retired: "#3d444f", inconclusive: "#e08fc4",
    failed: "#ff8a3d", rejected: "#c4571a", uploading: "#2b313a",
  },
};
const RAMP = {
  light: [[0, "#eef2f6"], [0.02, "#cfe3f1"], [0.5, "#4a9fd0"], [1, "#003f66"]],
  dark: [[0, "#20252c"], [0.02, "#1d3a50"], [0.5, "#2f86bd"], [1, "#c6ebff"]],
};

export function name() {
  const chosen = localStorage.getItem(KEPT);
  if (chosen === "light" || chosen === "dark") return chosen;
  return system.matches ? "dark" : "light";
}

// A custom property's own value may still hold light-dark(); what it computes to does not.
function computed(property) {
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.style.color = `var(${property})`;
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

export function colors() {
  const which = name();
  return {
    which,
    ink: computed("--ink"), soft: computed("--soft"), line: computed("--line"),
    paper: computed("--paper"), accent: computed("--accent"), good: computed("--good"),
    series: SERIES[which], rest: REST[which], states: STATES[which], ramp: RAMP[which],
  };
}

export function onChange(listener) {
  listeners.add(listener);
}

function apply() {
  const chosen = localStorage.getItem(KEPT) || "auto";
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  for (const listener of listeners) listener();
}

export function start(select) {
  select.value = localStorage.getItem(KEPT) || "auto";
  select.addEventListener("change", () => {
    if (select.value === "auto") localStorage.removeItem(KEPT);
    else localStorage.setItem(KEPT, select.value);
    apply();
  });
  system.addEventListener("change", apply);
  window.addEventListener("storage", (event) => {
    if (event.key !== KEPT) return;
    select.value = event.newValue || "auto";
    apply();
  });
  apply();
}
