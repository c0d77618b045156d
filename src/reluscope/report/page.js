// Draws the charts of the page. Layout comes from Python; the numbers stand once in DATA and are put in here.
"use strict";
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const CONFIG = { displaylogo: false, responsive: true, modeBarButtons: [["toImage", "resetScale2d"]] };
  const slider = document.getElementById("step");
  const output = document.getElementById("step-shown");

  // The same map as report/scales.py.
  const position = (x, scale) => {
    if (x === null) return null;
    if (scale.kind === "log") return x > 0 ? Math.log10(x) : null;
    if (scale.kind === "log1p") return Math.log10(1 + x);
    if (scale.kind === "symlog") return Math.sign(x) * Math.log10(1 + Math.abs(x) / scale.threshold);
    return x;
  };
  const escape = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const integer = (x) => x.toLocaleString("en-US");
  const shown = (x, unit) => {
    if (x === null) return "not defined";
    const digits = Number.isInteger(x) || Math.abs(x) >= 1e4 ? integer(x) : String(Number(x.toPrecision(4)));
    return unit === "1" ? digits : `${digits} ${unit}`;
  };

  // The last measurement of a run at or before a step; -1 when it had none by then.
  const at = (steps, step) => {
    let index = -1;
    while (index + 1 < steps.length && steps[index + 1] <= step) index += 1;
    return index;
  };

  const drawHeatmap = (element, chart, measure) => {
    const run = DATA.runs[chart.run];
    const rows = measure.values[chart.run];
    const trace = chart.figure.data[0];
    trace.z = run.sites.map((_, site) => rows.map((row) => position(row[site], measure.scale)));
    trace.customdata = run.sites.map((name, site) =>
      rows.map((row, index) => [escape(name), integer(run.steps[index]), shown(row[site], measure.unit)]));
    return Plotly.newPlot(element, chart.figure.data, chart.figure.layout, CONFIG);
  };

  const fillCurves = (chart, measure, step) => {
    chart.runs.forEach((number, trace) => {
      const run = DATA.runs[number];
      const index = at(run.steps, step);
      const row = index < 0 ? run.sites.map(() => null) : measure.values[number][index];
      Object.assign(chart.figure.data[trace], {
        x: row.map((_, site) => site),
        y: row.map((value) => position(value, measure.scale)),
        customdata: row.map((value, site) =>
          [escape(run.sites[site]), index < 0 ? "" : integer(run.steps[index]), shown(value, measure.unit)]),
      });
    });
  };

  // A thin line at the slider's step: between columns where the step was not measured.
  const markHeatmap = (element, chart, step) => {
    const steps = DATA.runs[chart.run].steps;
    const index = at(steps, step);
    const shapes = index < 0 || steps.length < 2 ? [] : [-0.5, 0.5].map((side) => ({
      type: "line", x0: index + side, x1: index + side, y0: 0, y1: 1, yref: "paper", line: { color: "#000000", width: 1 },
    }));
    return Plotly.relayout(element, { shapes });
  };

  // A matrix from the triangle above its diagonal.
  const square = (above, size, diagonal) => {
    const rows = Array.from({ length: size }, () => new Array(size).fill(diagonal));
    let place = 0;
    for (let i = 0; i < size; i += 1) for (let j = i + 1; j < size; j += 1) { rows[i][j] = rows[j][i] = above[place]; place += 1; }
    return rows;
  };

  // The map of the site that is chosen: numbers come in ten-thousandths, -1 for what is not defined.
  const fillSimilarity = (element, chart) => {
    const choice = document.querySelector(`select[data-chart="${element.id}"]`);
    const { steps, values, errors } = DATA.similarities[chart.run][Number(choice.value)];
    const size = steps.length;
    const value = square(values, size, 10000);
    const error = square(errors, size, 0);
    const words = (v, e) => {
      if (v < 0) return "not defined";
      return e === 0 ? `${v / 10000} (exact)` : `${v / 10000} \u00b1 ${e < 0 ? "?" : e / 10000} (standard error)`;
    };
    const every = Math.max(1, Math.ceil(size / 6));
    const shownAt = steps.map((_, index) => index).filter((index) => index % every === 0 || index === size - 1)
      .filter((index, place, all) => index === size - 1 || size - 1 - index >= every / 2);
    const axis = { tickvals: shownAt, ticktext: shownAt.map((index) => integer(steps[index])), range: [-0.5, size - 0.5] };
    Object.assign(chart.figure.data[0], {
      z: value.map((row) => row.map((v) => (v < 0 ? null : v / 10000))),
      customdata: value.map((row, i) => row.map((v, j) => [integer(steps[i]), integer(steps[j]), words(v, error[i][j])])),
    });
    Object.assign(chart.figure.layout.xaxis, axis);
    Object.assign(chart.figure.layout.yaxis, axis);
  };

  const currentStep = () => (slider ? DATA.steps[Number(slider.value)] : null);
  const charts = [...document.querySelectorAll(".chart")].map((element) => ({
    element, chart: DATA.charts[element.id], measure: DATA.measures[DATA.charts[element.id].measure], drawn: false, step: null,
  }));

  const draw = (item) => {
    const { element, chart, measure } = item;
    if (!item.drawn) {
      item.drawn = true;
      if (chart.kind === "heatmap") drawHeatmap(element, chart, measure);
      else if (chart.kind === "similarity") fillSimilarity(element, chart);
      else if (chart.kind === "curves") { fillCurves(chart, measure, currentStep()); item.step = currentStep(); }
      if (chart.kind !== "heatmap") Plotly.newPlot(element, chart.figure.data, chart.figure.layout, CONFIG);
    }
    if (chart.kind === "training" || chart.kind === "similarity" || item.step === currentStep() && chart.kind === "curves") return;
    item.step = currentStep();
    if (chart.kind === "heatmap") markHeatmap(element, chart, item.step);
    else { fillCurves(chart, measure, item.step); Plotly.react(element, chart.figure.data, chart.figure.layout, CONFIG); }
  };

  // Charts near the window follow the slider at once, the others when they come into view.
  const near = new Set();
  const items = new Map(charts.map((item) => [item.element, item]));
  let waiting = false;
  const refresh = () => {
    waiting = false;
    near.forEach((item) => { if (!item.drawn || item.step !== currentStep()) draw(item); });
  };
  const request = () => { if (!waiting) { waiting = true; requestAnimationFrame(refresh); } };
  const watch = new IntersectionObserver((entries) => {
    entries.forEach((entry) => near[entry.isIntersecting ? "add" : "delete"](items.get(entry.target)));
    request();
  }, { rootMargin: "600px" });
  charts.forEach((item) => watch.observe(item.element));

  document.querySelectorAll("select[data-chart]").forEach((choice) => {
    choice.addEventListener("change", () => {
      const { element, chart } = charts.find((item) => item.element.id === choice.dataset.chart);
      fillSimilarity(element, chart);
      Plotly.react(element, chart.figure.data, chart.figure.layout, CONFIG);
    });
  });

  const tell = () => { output.textContent = integer(currentStep()); request(); };
  if (slider) { slider.addEventListener("input", tell); tell(); }
  // What is not yet drawn is drawn for the printer.
  window.addEventListener("beforeprint", () => charts.forEach((item) => { if (!item.drawn) draw(item); }));
})();
