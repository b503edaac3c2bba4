// Draws the curves and the completions of a report. All text of a run is set as text, never as HTML.
(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("data").textContent);
  var root = document.documentElement;
  var plots = [];

  // ------------------------------------------------------------------ colours: the reader's choice, else the system's

  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  var chosen = null;
  function applyTheme() {
    var theme = chosen || (dark.matches ? "dark" : "light");
    root.dataset.theme = theme;
    document.getElementById("theme").textContent = theme === "dark" ? "Light" : "Dark";
  }
  document.getElementById("theme").addEventListener("click", function () {
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    applyTheme();
    drawCharts();
  });
  dark.addEventListener("change", function () { applyTheme(); drawCharts(); });

  function colour(name) {
    return getComputedStyle(root).getPropertyValue("--" + name).trim();
  }

  function make(tag, className, text) {
    var node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text;
    return node;
  }

  function shown(value) {
    if (value === null || value === undefined) return "–";
    var size = Math.abs(value);
    return size !== 0 && (size >= 10000 || size < 0.001) ? value.toExponential(2) : String(Math.round(value * 1000) / 1000);
  }

  // ----------------------------------------------------------------------------------------------------------- curves

  // One x axis for all curves of a chart: the union of their steps, with gaps where a curve has no value.
  function columns(curves) {
    var steps = Array.from(new Set(curves.flatMap(function (c) { return c.steps; }))).sort(function (a, b) { return a - b; });
    var place = new Map(steps.map(function (step, index) { return [step, index]; }));
    function spread(c, values) {
      var column = new Array(steps.length).fill(null);
      c.steps.forEach(function (step, index) { column[place.get(step)] = values[index]; });
      return column;
    }
    return { steps: steps, spread: spread };
  }

  function seriesOf(curve, index, several, stacked) {
    var validation = curve.source === "validation";
    var stroke = several ? colour("run" + curve.run) : stacked ? colour("run" + index) : colour(validation ? "accent" : "training");
    return {
      label: curve.label, stroke: stroke, width: validation || stacked ? 2 : several ? 1 : 1.5, spanGaps: true,
      dash: several && !validation ? [4, 3] : undefined,
      points: { show: validation, size: 6, fill: stroke }, value: function (_, v) { return shown(v); },
    };
  }

  // The value nearest to the cursor, of curves that have one at few steps only.
  function nearest(plot, series, index) {
    var column = plot.data[series];
    for (var away = 0; series && away < column.length; away++) {
      if (column[index - away] != null) return index - away;
      if (column[index + away] != null) return index + away;
    }
    return index;
  }

  function drawChart(box, chart, several) {
    var target = box.querySelector(".plot");
    target.textContent = "";
    var all = columns(chart.curves);
    var values = [all.steps], series = [{ label: "step" }], bands = [];
    chart.curves.forEach(function (curve, index) {
      values.push(all.spread(curve, curve.values));
      series.push(seriesOf(curve, index, several, chart.stacked));
    });
    chart.curves.forEach(function (curve, index) {
      if (!curve.low) return;
      values.push(all.spread(curve, curve.high), all.spread(curve, curve.low));
      ["high", "low"].forEach(function (end) {
        series.push({ label: curve.label + " 95 % " + end, stroke: "transparent", width: 0, spanGaps: true, points: { show: false }, value: function (_, v) { return shown(v); } });
      });
      bands.push({ series: [series.length - 2, series.length - 1], fill: series[index + 1].stroke + "2b" });
    });
    var axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 }, font: "11px system-ui, sans-serif" };
    var options = {
      width: Math.max(200, target.clientWidth), height: box.classList.contains("wide") ? 300 : 190,
      cursor: { sync: { key: "steps" }, points: { size: 7 }, dataIdx: nearest },
      scales: { x: { time: false }, y: chart.bounds ? { range: function () { return chart.bounds; } } : {} },
      axes: [axis, Object.assign({ size: 58, values: function (_, ticks) { return ticks.map(shown); } }, axis)],
      series: series, bands: bands, legend: { live: true },
    };
    var plot = new uPlot(options, values, target);
    // The ends of the intervals are in the band; a legend with them would be longer than the chart.
    plot.root.querySelectorAll(".u-legend .u-series").forEach(function (row, index) {
      if (index > chart.curves.length) row.remove();
    });
    plots.push({ plot: plot, target: target });
  }

  function drawCharts() {
    plots.forEach(function (drawn) { drawn.plot.destroy(); });
    plots = [];
    document.querySelectorAll(".chart[data-chart]").forEach(function (box) {
      drawChart(box, data.charts[Number(box.dataset.chart)], data.several);
    });
  }

  // -------------------------------------------------------------------------------------------------------completions

  var explorer = document.getElementById("explorer");
  var rows = data.rows || [], listed = [], current = -1;

  function gain(row) {
    return row.before === null || row.after === null ? null : row.after - row.before;
  }

  var kinds = {
    all: function () { return true; },
    gained: function (row) { return gain(row) > 1e-9; },
    lost: function (row) { return gain(row) < -1e-9; },
    same: function (row) { return gain(row) !== null && Math.abs(gain(row)) <= 1e-9; },
    ungraded: function (row) { return row.shots.some(function (s) { return s.status; }); },
    cut: function (row) { return row.shots.some(function (s) { return s.cut; }); },
  };
  var orders = {
    gain: function (a, b) { return (gain(b) || 0) - (gain(a) || 0); },
    loss: function (a, b) { return (gain(a) || 0) - (gain(b) || 0); },
    lowest: function (a, b) { return (a.after === null ? 1e99 : a.after) - (b.after === null ? 1e99 : b.after); },
    file: function (a, b) { return a.place - b.place; },
  };

  function refill() {
    var split = document.getElementById("split").value, kind = document.getElementById("kind").value;
    var order = document.getElementById("order").value, words = document.getElementById("search").value.toLowerCase();
    listed = rows.filter(function (row) {
      return (split === "all" || row.split === split) && kinds[kind](row) &&
        (!words || row.prompt.toLowerCase().includes(words) || row.id.toLowerCase().includes(words) ||
          row.texts.some(function (text) { return text.toLowerCase().includes(words); }));
    }).sort(orders[order]);
    var list = document.getElementById("rows");
    list.textContent = "";
    listed.forEach(function (row, index) {
      var item = make("li"), button = make("button"), change = gain(row);
      button.type = "button";
      button.append(make("b", "", row.id), " ", make("small", "", row.split), " ", shown(row.before) + " → ",
        make("b", change > 1e-9 ? "up" : change < -1e-9 ? "down" : "", shown(row.after)));
      button.append(make("span", "", (row.prompt.length > 60 ? "…" : "") + row.prompt.slice(-60)));
      button.addEventListener("click", function () { select(index, false); });
      item.append(button);
      list.append(item);
    });
    document.getElementById("count").textContent = listed.length + " of " + rows.length + " rows";
    select(listed.length ? 0 : -1, false);
  }

  function select(index, focus) {
    var buttons = document.querySelectorAll("#rows button");
    buttons.forEach(function (button, place) { button.setAttribute("aria-current", place === index ? "true" : "false"); });
    current = index;
    showRow(listed[index]);
    if (focus && buttons[index]) { buttons[index].focus({ preventScroll: true }); buttons[index].scrollIntoView({ block: "nearest" }); }
  }

  function showRow(row) {
    var detail = document.getElementById("detail");
    detail.textContent = "";
    if (!row) { detail.append(make("p", "note", "No row matches.")); return; }
    detail.append(make("h3", "", row.id + ", " + row.split + " row"));
    var prompt = make("pre", "prompt", row.prompt);
    prompt.tabIndex = 0;
    detail.append(prompt);
    var shots = make("div", "shots");
    row.shots.forEach(function (shot) {
      var card = make("article", "shot" + (shot.step === data.best && data.best ? " best" : "")), head = make("header");
      head.append(make("b", "", shot.label || (shot.step === 0 && row.split !== "training" ? "base" : "step " + shot.step)),
        make("b", "", shot.status || "reward " + shown(shot.reward)), make("span", "", shot.tokens + " tokens"));
      if (shot.step === data.best && data.best) head.append(make("span", "", "best checkpoint"));
      if (shot.cut) head.append(make("span", "down", "cut at the limit"));
      card.append(head, make("pre", "", row.texts[shot.text] || "(empty)"));
      if (shot.error) card.append(make("p", "note", shot.error));
      if (shot.components) {
        var chips = make("div", "chips");
        Object.keys(shot.components).forEach(function (name) { chips.append(make("span", "", name + " " + shown(shot.components[name]))); });
        card.append(chips);
      }
      shots.append(card);
    });
    detail.append(shots);
  }

  if (explorer) {
    rows.forEach(function (row, index) { row.place = index; });
    ["split", "kind", "order"].forEach(function (id) { document.getElementById(id).addEventListener("change", refill); });
    document.getElementById("search").addEventListener("input", refill);
    document.addEventListener("keydown", function (event) {
      var field = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "/" && !field) { event.preventDefault(); document.getElementById("search").focus(); }
      if (field && event.key === "Escape") event.target.blur();
      if (field) return;
      if (event.key === "j" && current < listed.length - 1) select(current + 1, true);
      if (event.key === "k" && current > 0) select(current - 1, true);
    });
    explorer.hidden = false;
  }

  applyTheme();
  if (explorer) refill();
  drawCharts();
  var waiting = 0;
  window.addEventListener("resize", function () {
    clearTimeout(waiting);
    waiting = setTimeout(function () {
      plots.forEach(function (drawn) { drawn.plot.setSize({ width: Math.max(200, drawn.target.clientWidth), height: drawn.plot.height }); });
    }, 100);
  });
})();
