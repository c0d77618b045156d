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

  const currentStep = () => (slider ? DATA.steps[Number(slider.value)] : null);
  const charts = [...document.querySelectorAll(".chart")].map((element) => ({
    element, chart: DATA.charts[element.id], measure: DATA.measures[DATA.charts[element.id].measure], drawn: false, step: null,
  }));

  const draw = (item) => {
    const { element, chart, measure } = item;
    if (!item.drawn) {
      item.drawn = true;
      if (chart.kind === "heatmap") drawHeatmap(element, chart, measure);
      else if (chart.kind === "curves") { fillCurves(chart, measure, currentStep()); item.step = currentStep(); }
      if (chart.kind !== "heatmap") Plotly.newPlot(element, chart.figure.data, chart.figure.layout, CONFIG);
    }
    if (chart.kind === "training" || item.step === currentStep() && chart.kind === "curves") return;
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

  const tell = () => { output.textContent = integer(currentStep()); request(); };
  if (slider) { slider.addEventListener("input", tell); tell(); }
  // What is not yet drawn is drawn for the printer.
  window.addEventListener("beforeprint", () => charts.forEach((item) => { if (!item.drawn) draw(item); }));
})();
