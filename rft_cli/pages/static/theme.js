// Colours (the reader's choice, else the system's) and what every script of these pages needs.
var rft = (function () {
  "use strict";
  var root = document.documentElement, KEY = "rft-theme";
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  var onTheme = [], chosen = kept();

  // A file that is opened from a disk may have no storage.
  function kept() { try { return localStorage.getItem(KEY); } catch (error) { return null; } }
  function keep(theme) { try { localStorage.setItem(KEY, theme); } catch (error) { /* for this page only */ } }

  function apply() {
    var theme = chosen === "dark" || chosen === "light" ? chosen : dark.matches ? "dark" : "light";
    root.dataset.theme = theme;
    var button = document.getElementById("theme");
    if (button) button.textContent = theme === "dark" ? "Light" : "Dark";
    onTheme.forEach(function (redraw) { redraw(); });
  }
  dark.addEventListener("change", apply);
  document.addEventListener("click", function (event) {
    if (event.target.id !== "theme") return;
    chosen = root.dataset.theme === "dark" ? "light" : "dark";
    keep(chosen);
    apply();
  });
  document.addEventListener("DOMContentLoaded", apply);
  apply();

  return {
    onTheme: onTheme,
    colour: function (name) { return getComputedStyle(root).getPropertyValue("--" + name).trim(); },
    make: function (tag, className, text) {
      var node = document.createElement(tag);
      if (className) node.className = className;
      if (text !== undefined) node.textContent = text;
      return node;
    },
    shown: function (value) {
      if (value === null || value === undefined) return "–";
      var size = Math.abs(value);
      return size !== 0 && (size >= 10000 || size < 0.001) ? value.toExponential(2) : String(Math.round(value * 1000) / 1000);
    },
  };
})();
