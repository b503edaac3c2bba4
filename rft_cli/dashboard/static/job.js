// A job that starts: its page goes on to the run as soon as there is one, and shows the end of the output.
"use strict";
(() => {
  const output = document.getElementById("job-output");
  let begun = document.querySelector("[data-forward]") !== null;
  const end = () => { const log = document.querySelector(".log"); if (log) log.scrollTop = log.scrollHeight; };
  end();
  new MutationObserver(() => {
    const run = document.getElementById("to-run");
    if (begun && run) location.replace(run.href);
    begun = begun || document.querySelector("[data-forward]") !== null;
    end();
  }).observe(output.closest("main"), { childList: true, subtree: true });
})();
