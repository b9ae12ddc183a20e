// Sorts, filters and marks trials. Without it the page shows the same numbers.
"use strict";
(() => {
  const table = document.getElementById("trials-table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  const fields = ["filter-text", "filter-result", "filter-method"].map((id) => document.getElementById(id));
  const count = document.getElementById("filter-count");
  const tip = document.getElementById("tip");
  const columnOf = (key) => heads.findIndex((head) => head.dataset.key === key);
  const [resultColumn, methodColumn] = [columnOf("result"), columnOf("method")];

  // A number is compared by its exact value, a text by its letters; what is unknown comes last either way.
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
    return cell.textContent === "–" ? null : cell.textContent;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
  const sortBy = (column) => {
    const head = heads[column];
    const sign = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const keyed = rows.map((row, place) => [valueOf(row, column), place, row]);
    keyed.sort(([a, i], [b, j]) => {
      if (a === null || b === null) return a === b ? i - j : a === null ? 1 : -1;
      return sign * compare(a, b) || i - j;
    });
    body.append(...keyed.map((entry) => entry[2]));
  };
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => sortBy(column)));

  const filter = () => {
    const [text, result, method] = fields.map((field) => field.value);
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const content = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      const fits = words.every((word) => content.includes(word))
        && (!result || row.cells[resultColumn].textContent === result)
        && (!method || row.cells[methodColumn].textContent === method);
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length} trials`;
  };
  fields.forEach((field) => field.addEventListener("input", filter));
  const form = document.getElementById("filters");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;

  // Marks stay until they are taken away; the pointer marks a trial for as long as it is there.
  const each = (trial, act) => document.querySelectorAll(`[data-trial="${trial}"]`).forEach(act);
  body.addEventListener("click", (event) => {
    const button = event.target.closest("button.mark");
    if (!button) return;
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    each(button.closest("tr").dataset.trial, (element) => element.classList.toggle("marked", on));
  });
  let near = null;
  const leave = () => {
    if (near !== null) each(near, (element) => element.classList.remove("near"));
    near = null;
    tip.hidden = true;
  };
  document.addEventListener("pointerover", (event) => {
    const target = event.target.closest("[data-trial]");
    leave();
    if (!target) return;
    near = target.dataset.trial;
    each(near, (element) => element.classList.add("near"));
    const title = target.querySelector("title");
    if (!title) return;
    tip.textContent = title.textContent;
    tip.hidden = false;
    const right = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${window.scrollX + Math.max(8, Math.min(event.clientX + 12, right))}px`;
    tip.style.top = `${window.scrollY + event.clientY + 16}px`;
  });
  // What is wider than its place says so; what is folded is printed too.
  const widths = new ResizeObserver((entries) => entries.forEach(({ target }) => {
    target.classList.toggle("wider", target.scrollWidth > target.clientWidth);
  }));
  document.querySelectorAll(".scroll").forEach((part) => widths.observe(part));
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((part) => { part.open = true; });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") leave();
  });
})();
