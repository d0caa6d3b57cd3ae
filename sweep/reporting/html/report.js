"use strict";

// Tables: a button in every heading; each press turns the order round. Missing values stay last.
for (const table of document.querySelectorAll("table.data")) {
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, heading, column));
  });
}

function sort(table, heading, column) {
  const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => {
    const cell = row.cells[column];
    return { row, text: cell.textContent, number: "value" in cell.dataset ? Number(cell.dataset.value) : NaN };
  });
  rows.sort((a, b) => {
    if (!a.text || !b.text) return Number(!a.text) - Number(!b.text);
    if (Number.isNaN(a.number) || Number.isNaN(b.number)) return sign * a.text.localeCompare(b.text, "en");
    return sign * (a.number - b.number);
  });
  body.append(...rows.map(({ row }) => row));
}

// Figures: a box for every series, where there are several.
for (const figure of document.querySelectorAll("figure")) {
  const names = JSON.parse(figure.dataset.names);
  if (names.length > 1) {
    const set = document.createElement("fieldset");
    set.innerHTML = "<legend>Show</legend>";
    names.forEach((name, number) => {
      const label = document.createElement("label");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = true;
      box.autocomplete = "off";
      box.addEventListener("change", () => {
        for (const part of figure.querySelectorAll(`[data-series="${number}"]`)) part.classList.toggle("off", !box.checked);
      });
      label.append(box, name);
      set.append(label);
    });
    figure.prepend(set);
  }
}

// Marks: what they stand for, beside the pointer or the focus. One of a figure's marks is in the order of the Tab key;
// the arrow keys lead to the others.
const tip = document.createElement("div");
tip.id = "tip";
tip.hidden = true;
tip.setAttribute("aria-hidden", "true"); // screen readers have the marks' own labels
document.body.append(tip);

function show(mark) {
  tip.textContent = mark.getAttribute("aria-label");
  tip.hidden = false;
  const at = mark.getBoundingClientRect();
  const width = document.documentElement.clientWidth;
  const left = Math.min(Math.max(at.left + at.width / 2 - tip.offsetWidth / 2, 4), width - tip.offsetWidth - 4);
  const above = at.top - tip.offsetHeight - 6;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${(above > 0 ? above : at.bottom + 6) + scrollY}px`;
}

function hide() {
  tip.hidden = true;
}

for (const figure of document.querySelectorAll("figure")) {
  const marks = [...figure.querySelectorAll(".mark")];
  marks.forEach((mark, number) => {
    mark.querySelector("title").remove(); // else the browser shows a second tip
    mark.setAttribute("tabindex", number === 0 ? "0" : "-1");
    mark.addEventListener("mouseenter", () => show(mark));
    mark.addEventListener("mouseleave", hide);
    mark.addEventListener("focus", () => show(mark));
    mark.addEventListener("blur", hide);
    mark.addEventListener("keydown", (event) => {
      if (event.key === "Escape") hide();
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const visible = marks.filter((other) => !other.classList.contains("off"));
      const next = visible[(visible.indexOf(mark) + step + visible.length) % visible.length];
      marks.forEach((other) => other.setAttribute("tabindex", other === next ? "0" : "-1"));
      next.focus();
    });
  });
}
