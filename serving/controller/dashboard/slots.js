// Who held a slot and when; and whether hot adapters are kept there on purpose.
import { draw, plotTimes } from "./charts.js";
import { byId, setText } from "./elements.js";
import { percent, plural, shorten } from "./notation.js";

const MAX_ROWS = 30;
const ROW_PIXELS = 17;

export async function showHistory(history) {
  const rows = rowsOf(history);
  const isEmpty = rows.length === 0;
  byId("heat-empty").hidden = !isEmpty;
  byId("heat").closest("figure").hidden = isEmpty;
  if (isEmpty) return;
  const busiest = rows[0];
  setText(byId("heat-reading"), `${plural(rows.length, "version", "versions")} held a slot; `
    + `${busiest.name} longest, ${percent(busiest.share)} of the time. `
    + "Stripes of many short stays mean thrash: more adapters are hot than there are slots.");
  byId("heat").style.height = `${rows.length * ROW_PIXELS + 46}px`;
  await draw(byId("heat"), (scheme, width) => build(history, rows, { scheme, width }));
}

function rowsOf({ adapters }) {
  const rows = adapters.map(({ name, in_slot: inSlot }) => {
    const known = inSlot.filter((value) => value !== null);
    const sum = known.reduce((total, value) => total + value, 0);
    return { name, inSlot, share: known.length === 0 ? 0 : sum / known.length };
  });
  return rows.filter((row) => row.share > 0)
    .sort((one, two) => two.share - one.share || (one.name < two.name ? -1 : 1)).slice(0, MAX_ROWS);
}

function build(history, rows, { scheme, width }) {
  const most = width < 420 ? 16 : 34;
  // plotly draws the first row at the bottom.
  const upward = [...rows].reverse();
  return {
    traces: [{
      type: "heatmap", x: plotTimes(history.times), y: upward.map((row) => row.name),
      z: upward.map((row) => row.inSlot.map((value) => (value === null ? null : value * 100))),
      zmin: 0, zmax: 100, colorscale: scheme.ramp, showscale: false, ygap: 1, hoverongaps: false,
      hovertemplate: "%{y}<br>%{x|%H:%M:%S} UTC: %{z:.0f} % of the time<extra></extra>",
    }],
    layout: {
      hovermode: "closest", margin: { t: 4, b: 30, r: 8, l: 8 },
      xaxis: { type: "date", showgrid: false },
      yaxis: {
        type: "category", showgrid: false, ticks: "", dtick: 1, tickmode: "array",
        tickvals: upward.map((row) => row.name),
        ticktext: upward.map((row) => shorten(row.name, most)), tickfont: { size: 11 },
      },
    },
  };
}
