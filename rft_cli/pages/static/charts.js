// Draws the curves of the block `data` into the boxes `.chart[data-chart]`, in the page's colours.
rft.charts = (function () {
  "use strict";
  var data = { charts: [], several: false }, drawn = [];
  var shown = rft.shown, colour = rft.colour;

  function read(page) {
    var block = page.getElementById("data");
    return block ? JSON.parse(block.textContent) : { charts: [], several: false };
  }

  // One x axis for all curves of a chart: the union of their steps, with gaps where a curve has no value.
  function columnsOf(chart) {
    var steps = Array.from(new Set(chart.curves.flatMap(function (c) { return c.steps; }))).sort(function (a, b) { return a - b; });
    var place = new Map(steps.map(function (step, index) { return [step, index]; }));
    function spread(curve, values) {
      var column = new Array(steps.length).fill(null);
      curve.steps.forEach(function (step, index) { column[place.get(step)] = values[index]; });
      return column;
    }
    var columns = [steps].concat(chart.curves.map(function (c) { return spread(c, c.values); }));
    chart.curves.forEach(function (c) { if (c.low) columns.push(spread(c, c.high), spread(c, c.low)); });
    return columns;
  }

  // One value makes no line: it is a point.
  function isAlone(column) { return column.filter(function (value) { return value != null; }).length === 1; }

  // `ends`: the column of the upper ends of the curve's intervals; that of the lower ends follows.
  function seriesOf(curve, index, several, stacked, ends) {
    var validation = curve.source === "validation";
    var stroke = several ? colour("run" + curve.run) : stacked ? colour("run" + index) : colour(validation ? "accent" : "training");
    return {
      label: curve.label, stroke: stroke, width: validation || stacked ? 2 : several ? 1 : 1.5, spanGaps: true,
      dash: several && !validation ? [4, 3] : undefined,
      points: { show: function (plot, at) { return validation || isAlone(plot.data[at]); }, size: 6, fill: stroke },
      value: function (plot, value, series, at) {
        var high = ends && at !== null ? plot.data[ends][at] : null;
        return high === null || high === undefined ? shown(value) : shown(value) + " [" + shown(plot.data[ends + 1][at]) + ", " + shown(high) + "]";
      },
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

  // Between two marks of the axis of steps: a whole number.
  var WHOLE = [1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7].flatMap(function (ten) { return [ten, 2 * ten, 5 * ten]; });
  function stepRange(plot, low, high) {
    var only = plot.data[0].length === 1 ? plot.data[0][0] : null;
    return only === null ? [low, high] : [Math.max(0, only - 1), only + 1];
  }
  function valueRange(plot, low, high) {
    if (low === null || high === null) return [null, null];
    return low === 0 && high === 0 ? [0, 1] : uPlot.rangeNum(low, high, 0.1, true);
  }

  function optionsOf(chart, several, target, wide) {
    var series = [{ label: "step" }], bands = [], ends = chart.curves.length + 1;
    chart.curves.forEach(function (curve, index) {
      series.push(seriesOf(curve, index, several, chart.stacked, curve.low ? ends : 0));
      if (curve.low) { bands.push({ series: [ends, ends + 1], fill: series[index + 1].stroke + "2b" }); ends += 2; }
    });
    bands.forEach(function () {
      ["high", "low"].forEach(function (end) {
        series.push({ label: end, stroke: "transparent", width: 0, spanGaps: true, points: { show: false } });
      });
    });
    var axis = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { stroke: colour("line"), width: 1 }, font: "11px system-ui, sans-serif" };
    var stepAxis = Object.assign({ incrs: WHOLE }, axis);
    return {
      width: Math.max(200, target.clientWidth), height: wide ? 300 : 190,
      cursor: { sync: { key: "steps" }, points: { size: 7 }, dataIdx: nearest },
      scales: { x: { time: false, range: stepRange }, y: chart.bounds ? { range: function () { return chart.bounds; } } : { range: valueRange } },
      axes: [stepAxis, Object.assign({ size: 58, values: function (_, ticks) { return ticks.map(shown); } }, axis)],
      series: series, bands: bands, legend: { live: true },
    };
  }

  function drawChart(box, chart, several) {
    var target = box.querySelector(".plot");
    target.textContent = "";
    var plot = new uPlot(optionsOf(chart, several, target, box.classList.contains("wide")), columnsOf(chart), target);
    // The ends of the intervals are in the band and beside the value: no lines of their own in the legend.
    plot.root.querySelectorAll(".u-legend .u-series").forEach(function (row, index) {
      if (index > chart.curves.length) row.remove();
    });
    drawn.push({ plot: plot, target: target, box: box });
  }

  function draw(next) {
    data = next;
    drawn.forEach(function (one) { one.plot.destroy(); });
    drawn = [];
    document.querySelectorAll(".chart[data-chart]").forEach(function (box) {
      drawChart(box, data.charts[Number(box.dataset.chart)], data.several);
    });
  }

  function shape(charts) {
    return JSON.stringify(charts.map(function (chart) {
      return [chart.title, chart.curves.map(function (c) { return [c.label, Boolean(c.low)]; })];
    }));
  }

  // New figures of the same curves go into the plots that are there, so that the cursor stays where it is.
  function update(next) {
    if (JSON.stringify(next) === JSON.stringify(data)) return;
    if (shape(next.charts) !== shape(data.charts) || drawn.length !== next.charts.length) { draw(next); return; }
    data = next;
    drawn.forEach(function (one) { one.plot.setData(columnsOf(data.charts[Number(one.box.dataset.chart)])); });
  }

  // Left and right move the cursor of the chart that has the focus, and with it that of all others.
  document.addEventListener("keydown", function (event) {
    var by = event.key === "ArrowLeft" ? -1 : event.key === "ArrowRight" ? 1 : 0;
    var one = by && drawn.find(function (other) { return other.box === event.target; });
    if (!one) return;
    event.preventDefault();
    var steps = one.plot.data[0], at = one.plot.cursor.idx;
    at = at === null || at === undefined ? (by > 0 ? 0 : steps.length - 1) : Math.min(steps.length - 1, Math.max(0, at + by));
    one.plot.setCursor({ left: one.plot.valToPos(steps[at], "x"), top: one.plot.over.clientHeight / 2 });
  });

  rft.onTheme.push(function () { if (drawn.length) draw(data); });
  var waiting = 0;
  window.addEventListener("resize", function () {
    clearTimeout(waiting);
    waiting = setTimeout(function () {
      drawn.forEach(function (one) { one.plot.setSize({ width: Math.max(200, one.target.clientWidth), height: one.plot.height }); });
    }, 100);
  });
  return { read: read, draw: draw, update: update };
})();
