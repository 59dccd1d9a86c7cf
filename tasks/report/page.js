// Sorting and filtering of the matrix. The page is complete without.
"use strict";

const table = document.querySelector("table");
const form = document.querySelector(".filters");
const all = (selector, root = table) => [...root.querySelectorAll(selector)];

function filter() {
  const wanted = all("select", form).filter((choice) => choice.value);
  const cells = all("td[data-state]");
  for (const cell of cells) {
    cell.classList.toggle("off", !wanted.every(({ name, value }) => cell.dataset[name] === value));
  }
  const shown = cells.filter((cell) => !cell.classList.contains("off"));
  const targets = new Set(shown.map((cell) => cell.dataset.target));
  for (const cell of all("[data-target]")) cell.hidden = !targets.has(cell.dataset.target);
  for (const row of all("tbody tr:not(.model)")) row.hidden = !shown.some((cell) => row.contains(cell));
  for (const body of all("tbody")) body.hidden = !shown.some((cell) => body.contains(cell));
  form.querySelector("output").value = wanted.length ? `${shown.length} of ${cells.length} libraries` : "";
}

// A number where there is one, else text; what is unknown comes last in both directions.
function value(row, key) {
  const cell = all("td[data-target]", row).find(({ dataset }) => dataset.target === key);
  const text = cell ? cell.dataset.size : row.dataset[key];
  return text === undefined ? undefined : /^\d/.test(text) ? Number.parseFloat(text) : text;
}

function sort(head, direction) {
  for (const other of all("thead th")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  for (const body of all("tbody")) {
    const rows = all("tr:not(.model)", body).map((row) => ({ row, by: value(row, head.dataset.sort) }));
    rows.sort((one, other) => {
      if (one.by === other.by) return 0;
      if (one.by === undefined || other.by === undefined) return one.by === undefined ? 1 : -1;
      return sign * (one.by < other.by ? -1 : 1);
    });
    body.append(...rows.map(({ row }) => row));
  }
}

if (table) {
  for (const head of all("thead th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      sort(head, head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending");
    });
    head.append(button);
  }
  form.addEventListener("change", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
}
