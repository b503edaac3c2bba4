// Keeps a page current without a reload, and changes lists in place: it fetches the page from the server, and puts those of
// its elements that have `data-live` and differ in place of the old ones. What it inserts is what a reload would show, escaped
// by the server; the Content-Security-Policy lets no script run but the files of /static/.
(function () {
  "use strict";
  var main = document.getElementById("main");
  var etag = main.dataset.etag, every = Number(main.dataset.every) * 1000;
  var address = location.pathname + location.search, newest = 0, timer = 0;

  // --------------------------------------------------------------------------------------------------------- replacing

  function each(node, selector, doing) { Array.prototype.forEach.call(node.querySelectorAll(selector), doing); }
  function nameOf(input) { return input.name + "=" + input.value; }

  // What a person did to an element since the server made it.
  function touched(node) {
    var was = { open: [], checked: [], left: [], top: node.scrollTop, focus: "" };
    each(node, "details[open] > summary", function (summary) { was.open.push(summary.textContent); });
    each(node, "input:checked", function (input) { was.checked.push(nameOf(input)); });
    each(node, ".scroll", function (box) { was.left.push(box.scrollLeft); });
    if (node.contains(document.activeElement)) was.focus = document.activeElement.id;
    return was;
  }

  function touchAgain(node, was) {
    each(node, "details > summary", function (summary) {
      if (was.open.includes(summary.textContent)) summary.parentNode.open = true;
    });
    each(node, "input[type=checkbox]", function (input) { input.checked = was.checked.includes(nameOf(input)); });
    each(node, ".scroll", function (box, index) { box.scrollLeft = was.left[index] || 0; });
    node.scrollTop = was.top;
    var focused = was.focus && document.getElementById(was.focus);
    if (focused && node.contains(focused)) focused.focus({ preventScroll: true });
  }

  function replaceCurves(page) {
    var fresh = page.getElementById("curves"), old = document.getElementById("curves");
    if (!fresh || !old) return;
    var data = rft.charts.read(page);
    var same = old.querySelectorAll(".chart").length === fresh.querySelectorAll(".chart").length;
    if (!same) { old.replaceWith(document.adoptNode(fresh)); rft.charts.draw(data); return; }
    var boxes = fresh.querySelectorAll(".chart");
    each(old, ".chart", function (box, index) {
      box.setAttribute("aria-label", boxes[index].getAttribute("aria-label"));
      var title = box.querySelector("h3"), other = boxes[index].querySelector("h3");
      if (title.outerHTML !== other.outerHTML) title.replaceWith(document.adoptNode(other));
    });
    rft.charts.update(data);
  }

  function replace(page) {
    Array.from(page.querySelectorAll("[data-live][id]")).forEach(function (fresh) {
      var old = document.getElementById(fresh.id);
      if (!old || old.outerHTML === fresh.outerHTML) return;
      var was = touched(old);
      old.replaceWith(document.adoptNode(fresh));
      touchAgain(document.getElementById(fresh.id), was);
    });
    replaceCurves(page);
    countMarks();
    document.title = page.title;
    etag = page.getElementById("main").dataset.etag;
  }

  // ---------------------------------------------------------------------------------------------------------- fetching

  function say(text) {
    var line = document.getElementById("connection");
    if (line.textContent !== text) line.textContent = text;
    line.hidden = !text;
  }

  function fetched(asked, headers) {
    var number = ++newest;
    return fetch(asked, { headers: headers, cache: "no-store", credentials: "same-origin" }).then(function (answer) {
      return answer.text().then(function (text) {
        var page = new DOMParser().parseFromString(text, "text/html");
        return { status: answer.status, page: page, late: number !== newest };
      });
    });
  }

  function look() {
    clearTimeout(timer);
    if (!every || document.hidden) return;
    fetched(address, { "If-None-Match": '"' + etag + '"' }).then(function (answer) {
      if (answer.late) return;
      if (answer.status === 403) { say("This dashboard was started anew: open the address that it printed."); return; }
      if (answer.status === 404) {
        every = 0;
        document.getElementById("main").replaceWith(document.adoptNode(answer.page.getElementById("main")));
        document.title = answer.page.title;
        return;
      }
      if (answer.status >= 400) { say("The server could not read this anew; what is shown is older."); return; }
      say("");
      if (answer.status === 200) replace(answer.page);
    }, function () {
      say("No answer: has rft dashboard ended? What is shown is older.");
    }).finally(function () { clearTimeout(timer); timer = setTimeout(look, every); });
  }

  // Another list, page or row at another address: in place, or by going there where that fails.
  function goTo(url, then) {
    history.replaceState(null, "", url);
    address = url;
    fetched(url, {}).then(function (answer) {
      if (answer.late) return;
      if (answer.status !== 200) { location.assign(url); return; }
      replace(answer.page);
      if (then) then();
    }, function () { location.assign(url); });
  }

  // -------------------------------------------------------------------------------------------------- links, forms, keys

  // Two to five marked runs can be compared.
  function countMarks() {
    var button = document.querySelector("#list .actions button");
    var marked = document.querySelectorAll("#list input[name=run]:checked").length;
    if (button) button.disabled = marked < 2 || marked > 5;
  }
  document.addEventListener("change", countMarks);
  window.addEventListener("pageshow", countMarks);

  document.addEventListener("click", function (event) {
    var link = event.target.closest("a[data-swap]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    var id = link.id, inList = link.closest("#rows") !== null;
    goTo(link.pathname + link.search, function () {
      var again = id && document.getElementById(id), detail = document.getElementById("detail");
      if (again) again.focus({ preventScroll: true });
      if (inList && window.matchMedia("(max-width: 760px)").matches) detail.scrollIntoView();
    });
  });

  // `resets`: a choice after which the other ones of the form begin anew.
  function addressOf(form, resets) {
    var fields = new URLSearchParams();
    new FormData(form).forEach(function (value, name) {
      if (value !== "" && (!resets || name === resets.name || name === "q")) fields.append(name, value);
    });
    return location.pathname + (String(fields) ? "?" + fields : "");
  }

  var typing = 0;
  function submit(form, wait, resets) {
    clearTimeout(typing);
    typing = setTimeout(function () { goTo(addressOf(form, resets)); }, wait);
  }
  each(document, "form[data-swap]", function (form) {
    form.addEventListener("submit", function (event) { event.preventDefault(); submit(form, 0); });
    form.addEventListener("change", function (event) {
      var choice = event.target;
      if (choice.tagName === "SELECT") submit(form, 0, choice.dataset.resets === undefined ? null : choice);
    });
    form.addEventListener("input", function (event) { if (event.target.type === "search") submit(form, 250); });
  });

  // Rows of the list of completions, or runs: the one before or after the current one.
  function move(by) {
    var rows = Array.from(document.querySelectorAll("#rows a, table.runs a[id]"));
    if (!rows.length) return;
    var at = rows.indexOf(document.activeElement);
    if (at < 0) at = rows.findIndex(function (row) { return row.getAttribute("aria-current") === "true"; });
    var next = rows[at < 0 ? 0 : at + by];
    if (!next) return;
    next.focus();
    next.scrollIntoView({ block: "nearest" });
    if (next.dataset.swap !== undefined) next.click();
  }

  document.addEventListener("keydown", function (event) {
    var field = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (field && event.key === "Escape") event.target.blur();
    if (field) return;
    var search = document.querySelector("form[data-swap] input[type=search]");
    if (event.key === "/" && search) { event.preventDefault(); search.focus(); }
    if (event.key === "j") move(1);
    if (event.key === "k") move(-1);
  });

  document.addEventListener("visibilitychange", look);
  if (document.getElementById("data")) rft.charts.draw(rft.charts.read(document));
  timer = setTimeout(look, every);
})();
