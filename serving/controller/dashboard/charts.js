// Plots: plotly's script is fetched once the page is open; all plots share one look.
import { keyed, make } from "./elements.js";
import { colors, onChange } from "./theme.js";

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif';
const CONFIG = { displayModeBar: false, responsive: true, doubleClick: false, scrollZoom: false };
// node -> {build, isWaiting}: `build(colors)` gives traces and layout in the colours of the moment.
const drawn = new Map();
let loading = null;

// The script is large: fetched beside the first readings, it is there when they are.
export function prepare() {
  loadPlotly().catch(() => {});
}

function loadPlotly() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = document.documentElement.dataset.plotly;
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => {
      loading = null;
      script.remove();
      reject(new Error("The plots' script could not be loaded from the controller."));
    });
    document.head.append(script);
  });
  return loading;
}

// Draw or redraw; while the pointer reads the plot, the new one waits until it leaves.
export async function draw(node, build) {
  const known = drawn.get(node);
  if (known === undefined) node.addEventListener("pointerleave", () => paintWaiting(node));
  drawn.set(node, { build, isWaiting: false });
  if (known !== undefined && node.matches(":hover")) drawn.get(node).isWaiting = true;
  else await paint(node);
}

async function paintWaiting(node) {
  if (drawn.get(node).isWaiting) await paint(node);
}

async function paint(node) {
  const plotly = await loadPlotly();
  const entry = drawn.get(node);
  entry.isWaiting = false;
  if (node.closest("[hidden]") !== null) return;
  const scheme = colors();
  const { traces, layout, legend = [] } = entry.build(scheme, node.clientWidth);
  showLegend(node, legend);
  await plotly.react(node, traces, merge(base(scheme, node.clientWidth), layout), CONFIG);
}

// legend: [{name, color, isLine?}]. Our own, because plotly's takes its place from the plot.
function showLegend(node, legend) {
  let list = node.nextElementSibling;
  if (list === null || !list.classList.contains("legend")) {
    if (legend.length === 0) return;
    list = make("ul", { className: "legend" });
    node.after(list);
  }
  keyed(list, legend, {
    key: ({ name }) => name,
    create: ({ name }) => make("li", {}, make("span", { className: "swatch" }), name),
    update: (item, { color, isLine }) => {
      item.firstElementChild.style.background = color;
      item.firstElementChild.classList.toggle("line", Boolean(isLine));
    },
  });
}

function base({ ink, soft, line, paper }, width) {
  const axis = {
    gridcolor: line, linecolor: line, zerolinecolor: line, tickcolor: line, fixedrange: true,
    tickfont: { color: soft, size: 12 }, automargin: true, tickangle: 0,
    title: { font: { color: soft, size: 12 }, standoff: 8 },
  };
  return {
    font: { family: FONT, size: 12, color: ink },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 48, r: 12, t: 12, b: 40 }, autosize: true, dragmode: false,
    hoverlabel: { bgcolor: paper, bordercolor: line, font: { family: FONT, color: ink, size: 12 } },
    hovermode: "x unified", xaxis: { ...axis, nticks: Math.max(3, Math.floor(width / 110)) }, yaxis: axis,
    showlegend: false,
  };
}

function merge(one, two) {
  const merged = { ...one };
  for (const [name, value] of Object.entries(two)) {
    const isPlain = value !== null && typeof value === "object" && !Array.isArray(value);
    merged[name] = isPlain ? merge(one[name] ?? {}, value) : value;
  }
  return merged;
}

// Plotly reads times without a zone as they are: UTC, like every other time on the page.
export function plotTimes(times) {
  return times.map((time) => new Date(time * 1000).toISOString().slice(0, 19));
}

onChange(() => {
  for (const node of drawn.keys()) paint(node);
});
