"use strict";
(() => {
  for (const button of document.querySelectorAll("button.copy")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(button.dataset.copy);
        button.textContent = "Copied";
      } catch {
        // Pages opened from a file may not be allowed to copy: select the text instead.
        getSelection().selectAllChildren(button.previousElementSibling);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  }

  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    if (target) target.scrollIntoView({ block: "nearest" });
  };
  addEventListener("hashchange", open);
  open();

  const form = document.getElementById("filters");
  const table = document.getElementById("matrix");
  if (!form || !table) return;
  form.hidden = false;
  const rows = [...table.querySelectorAll("tr[data-op]")];
  const matches = (cell, status) =>
    status === "" || cell.dataset.status === status ||
    (status === "broken" && (cell.dataset.status === "fail" || cell.dataset.status === "error")) ||
    (status === "control" && cell.classList.contains("control-passed"));
  const filter = () => {
    const { status, subject, op } = Object.fromEntries(new FormData(form));
    for (const part of table.querySelectorAll("[data-subject]")) {
      part.hidden = subject !== "" && part.dataset.subject !== subject;
    }
    let shown = 0;
    for (const row of rows) {
      const cells = [...row.querySelectorAll("td[data-status]")].filter((cell) => !cell.hidden);
      row.hidden = (op !== "" && row.dataset.op !== op) || !cells.some((cell) => matches(cell, status));
      shown += row.hidden ? 0 : 1;
      for (const cell of cells) cell.classList.toggle("dim", !matches(cell, status));
    }
    for (const body of table.tBodies) {
      body.hidden = ![...body.querySelectorAll("tr[data-op]")].some((row) => !row.hidden);
    }
    form.querySelector("output").value = `${shown} of ${rows.length} rows`;
  };
  form.addEventListener("change", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  filter();
})();
