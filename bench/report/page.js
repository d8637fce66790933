// Draws the page's plots with plotly, in the page's own colours, anew when those change.
"use strict";
(() => {
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const seriesColour = (n) => colour(`--series-${n}`);
  const hovertemplate = "%{text}<extra></extra>";

  const shown = (value) => value >= 1 ? value.toLocaleString("en") : String(Number(value.toPrecision(2)));

  // plotly's own labels of a logarithmic axis, bare 2s and 5s between its decades, read as values.
  function logTicks(values) {
    const low = Math.min(...values) / 1.2, high = Math.max(...values) * 1.2;
    const within = (steps) => {
      const found = [];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
        for (const step of steps) {
          const value = step * 10 ** power;
          if (value >= low && value <= high) found.push(value);
        }
      return found;
    };
    const fine = within([1, 2, 5]);
    const tickvals = fine.length <= 7 ? fine : within([1]);
    return {
      type: "log", tickmode: "array", tickvals, ticktext: tickvals.map(shown),
      range: [Math.log10(low), Math.log10(high)],
    };
  }
  const axis = (title, isLog, values) => ({
    title: { text: title, font: { size: 12 }, standoff: 8 },
    gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line"),
    tickfont: { size: 12 }, automargin: true,
    ...(isLog ? logTicks(values) : { type: "linear", rangemode: "tozero", separatethousands: true }),
  });
  const bars = (marks, ink) => ({
    type: "data", symmetric: false, thickness: 1.4, width: 4, color: ink,
    array: marks.map((mark) => mark.high - mark.median),
    arrayminus: marks.map((mark) => mark.median - mark.low),
  });
  const allRuns = (plot) => plot.series.flatMap((series) => series.marks.flatMap((mark) => mark.runs));
  const texts = (marks) => marks.map((mark) => `${mark.label}: ${mark.shown}`);
  const single = (ink, x, y) => ({
    x, y, mode: "markers", hoverinfo: "skip", showlegend: false,
    marker: { size: 5, color: ink, opacity: 0.35 },
  });

  function growth(plot) {
    const data = plot.series.flatMap((series, n) => {
      const ink = seriesColour(n), marks = series.marks;
      return [
        single(ink, marks.flatMap((mark) => mark.runs.map(() => mark.x)), marks.flatMap((mark) => mark.runs)),
        {
          name: series.name, x: marks.map((mark) => mark.x), y: marks.map((mark) => mark.median),
          text: texts(marks), hovertemplate, error_y: bars(marks, ink), mode: "lines+markers",
          marker: { size: 8, color: ink }, line: { width: 2, color: ink },
        },
      ];
    });
    const xs = [...new Set(plot.series.flatMap((series) => series.marks.map((mark) => mark.x)))];
    const names = [...new Set(plot.series.map((series) => series.figure))];
    for (const level of plot.levels) {
      const ink = seriesColour(plot.series.findIndex((series) => series.figure === level.figure));
      data.push({
        x: [Math.min(...xs), Math.max(...xs)], y: [level.value, level.value], mode: "lines",
        name: level.label, showlegend: names.length === 1,
        line: { width: 1.5, dash: "dot", color: ink },
        hovertemplate: `${level.label}: ${level.shown}<extra></extra>`,
      });
    }
    const ys = [...allRuns(plot), ...plot.levels.map((level) => level.value)];
    return {
      data, height: 330, xaxis: {
        ...axis(plot.along, plot.log_x, xs),
        ...(xs.length <= 9 ? { tickmode: "array", tickvals: xs, ticktext: xs.map(shown) } : {}),
      },
      yaxis: axis("", plot.log_y, ys),
    };
  }

  function ranges(plot) {
    const place = new Map(plot.labels.map((label, n) => [label.replaceAll("`", ""), n]));
    const count = plot.series.length;
    const data = plot.series.flatMap((series, n) => {
      const ink = seriesColour(n), marks = series.marks;
      // Series of one group stand under each other, so that none hides another.
      const y = (mark) => place.get(mark.label) + (n - (count - 1) / 2) * (0.6 / count);
      return [
        single(ink, marks.flatMap((mark) => mark.runs), marks.flatMap((mark) => mark.runs.map(() => y(mark)))),
        {
          name: series.name, x: marks.map((mark) => mark.median), y: marks.map(y), text: texts(marks),
          hovertemplate, error_x: bars(marks, ink), mode: "markers", marker: { size: 8, color: ink },
        },
      ];
    });
    const ticktext = [...place.keys()].map(wrapped);
    const row = Math.max(32, 15 * count + 8, ...ticktext.map((text) => 10 + 15 * text.split("<br>").length));
    return {
      data, height: 60 + plot.labels.length * row, xaxis: axis("", plot.log_x, allRuns(plot)),
      yaxis: {
        ...axis("", false), tickmode: "array", tickvals: [...place.values()],
        ticktext, range: [plot.labels.length - 0.4, -0.6],
        showgrid: false, zeroline: false,
      },
    };
  }

  function trade(plot) {
    const best = plot.marks.filter((mark) => mark.is_best).sort((a, b) => a.x.median - b.x.median);
    const rest = plot.marks.filter((mark) => !mark.is_best);
    const trace = (marks, ink, mode) => ({
      x: marks.map((mark) => mark.x.median), y: marks.map((mark) => mark.y.median), mode,
      error_x: bars(marks.map((mark) => mark.x), ink), error_y: bars(marks.map((mark) => mark.y), ink),
      text: marks.map((mark) => mark.label), hovertemplate, textposition: "top center", showlegend: false,
      textfont: { size: 11 }, cliponaxis: false, marker: { size: 8, color: ink }, line: { width: 1.5, color: ink },
    });
    // More texts than these lie on each other; the table below names them all.
    const text = plot.marks.length > 8 ? "" : "+text";
    const xs = plot.marks.map((mark) => mark.x.median), ys = plot.marks.map((mark) => mark.y.median);
    return {
      data: [
        trace(rest, colour("--soft"), `markers${text}`),
        trace(best, seriesColour(0), `lines+markers${text}`),
      ],
      height: 400, xaxis: { ...axis(plot.x_title, plot.log_x, xs), ...(plot.log_x ? {} : { rangemode: "normal" }) },
      yaxis: { ...axis(plot.y_title, plot.log_y, ys), ...(plot.log_y ? {} : { rangemode: "normal" }) },
    };
  }

  function wrapped(label) {
    const lines = [""];
    for (const word of label.split(/(?<=[?&])| /)) {
      const last = lines.length - 1, glue = /[?&]$/.test(lines[last]) ? "" : " ";
      if (lines[last] && lines[last].length + word.length > 26) lines.push(word);
      else lines[last] = lines[last] ? lines[last] + glue + word : word;
    }
    return lines.join("<br>");
  }

  function draw() {
    const makers = { growth, ranges, trade };
    plots.forEach((plot, number) => {
      const { data, height, xaxis, yaxis } = makers[plot.kind](plot);
      const isMany = data.filter((each) => each.showlegend !== false && each.name).length > 1;
      Plotly.react(document.getElementById(`plot-${number}`), data, {
        height: height + (isMany ? 30 : 0), xaxis, yaxis, showlegend: isMany, hovermode: "closest",
        legend: { orientation: "h", x: 0, xanchor: "left", y: 1, yanchor: "bottom", font: { size: 12 } },
        margin: { l: 44, r: 24, t: isMany ? 34 : 10, b: 34 },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        font: { family: getComputedStyle(document.body).fontFamily, color: colour("--ink") },
      }, { displayModeBar: false, responsive: true });
    });
  }
  draw();
  dark.addEventListener("change", draw);
})();
