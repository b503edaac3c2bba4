// The form that starts a job: the command follows what is typed, files are chosen from a list. Without it the form works too.
"use strict";
(() => {
  const form = document.getElementById("start");
  const command = document.getElementById("command");
  const copy = document.getElementById("copy");
  let asked = 0, timer = 0;

  async function refresh() {
    const mine = ++asked;
    const answer = await fetch("/start/command", { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (answer.ok && mine === asked) command.textContent = (await answer.json()).command;
  }
  function soon() {
    clearTimeout(timer);
    timer = setTimeout(() => refresh().catch(() => {}), 150);
  }
  form.addEventListener("input", soon);
  form.addEventListener("change", soon);
  soon();

  copy.hidden = !navigator.clipboard;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(command.textContent);
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });

  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    document.getElementById("busy").textContent = "Checking files and grader…";
  });
  window.addEventListener("pageshow", () => { delete form.dataset.sent; document.getElementById("busy").textContent = ""; });

  const summary = document.getElementById("summary");
  if (summary) summary.focus();

  const picker = document.getElementById("picker");
  const list = document.getElementById("picker-list");
  const take = document.getElementById("picker-take");
  let field = "", at = "";

  function size(bytes) {
    if (bytes < 1000) return `${bytes} B`;
    return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
  }
  function row(text, note, act) {
    const item = document.createElement("li"), button = document.createElement("button");
    button.type = "button";
    button.append(text);
    if (note) { const said = document.createElement("span"); said.textContent = note; button.append(said); }
    button.addEventListener("click", act);
    item.append(button);
    list.append(item);
  }
  function chosen(path) {
    const input = form.elements.namedItem(field);
    input.value = path;
    picker.close();
    input.focus();
    soon();
  }
  async function open(folder) {
    const answer = await fetch(`/start/files?${new URLSearchParams({ field, at: folder })}`);
    const found = await answer.json();
    list.replaceChildren();
    if (!answer.ok) { document.getElementById("picker-at").textContent = found.error || "This folder can't be listed."; return; }
    at = found.at;
    document.getElementById("picker-at").textContent = at || "The folder in which the dashboard was started";
    const inside = at ? `${at}/` : "";
    if (at) row("..", "the folder above", () => open(at.includes("/") ? at.slice(0, at.lastIndexOf("/")) : ""));
    for (const name of found.folders) row(`${name}/`, "", () => open(inside + name));
    for (const [name, bytes] of found.files) row(name, size(bytes), () => chosen(inside + name));
    if (!list.children.length) row("Nothing to choose here", "", () => picker.close());
    take.hidden = take.dataset.folders !== "yes" || !at;
    const first = list.querySelector("button");
    if (first) first.focus();
  }
  for (const button of form.querySelectorAll("[data-pick]")) {
    button.hidden = false;
    button.addEventListener("click", () => {
      field = button.dataset.pick;
      const label = form.querySelector(`label[for="${CSS.escape(field)}"]`).firstChild.textContent.trim();
      document.getElementById("picker-title").textContent = `Choose: ${label}`;
      take.dataset.folders = field === "model.path" ? "yes" : "no";
      const value = form.elements.namedItem(field).value;
      picker.showModal();
      open(value.includes("/") && !value.startsWith("/") && !value.startsWith("..") ? value.slice(0, value.lastIndexOf("/")) : "")
        .then(() => { if (!list.children.length) open(""); }).catch(() => picker.close());
    });
  }
  take.addEventListener("click", () => chosen(`./${at}`));
  document.getElementById("picker-close").addEventListener("click", () => picker.close());
})();
