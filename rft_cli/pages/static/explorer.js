// The completions of a report: filter, order, search, one row through the steps. All text of a run is set as text.
(function () {
  "use strict";
  var data = rft.charts.read(document), make = rft.make, shown = rft.shown;
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
  if (explorer) refill();
})();
