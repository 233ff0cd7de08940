"use strict";
// The page is readable without this script, which sorts, filters, opens rows in place and draws.
const data = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// Sorting: numbers by value, words by alphabet, what is not available last whichever way.

const numbers = new Intl.Collator("en", { numeric: true });

function sortable(table) {
  for (const heading of table.tHead.rows[0].cells) {
    const button = make("button", { type: "button" }, ...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sort(table, heading));
  }
}

function sort(table, heading) {
  const first = heading.dataset.first || (heading.cellIndex ? "descending" : "ascending");
  const other = first === "ascending" ? "descending" : "ascending";
  const direction = heading.getAttribute("aria-sort") === first ? other : first;
  for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", direction);
  const sign = direction === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const rows = [...body.rows].filter((row) => !row.classList.contains("detail"));
  const key = (row) => row.cells[heading.cellIndex];
  rows.sort(heading.cellIndex === 0
    ? (a, b) => sign * numbers.compare(key(a).textContent, key(b).textContent)
    : (a, b) => compare(key(a).dataset.value, key(b).dataset.value, sign));
  for (const row of rows) body.append(row, ...(opened.has(row) ? [opened.get(row)] : []));
}

function compare(a, b, sign) {
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  return sign * (a - b);
}

// A table that fits its box scrolls with the page, so that its headings stay at the top of the window.

const fitting = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    target.classList.toggle("fits", target.firstElementChild.offsetWidth <= target.clientWidth);
  }
});

// Filtering: every word must occur in the label of a row.

const filter = document.getElementById("filter");
const group = document.getElementById("comparison-group");

function show() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const section of all(".comparison-group")) section.hidden = Boolean(group?.value) && section.dataset.group !== group.value;
  for (const row of all(".sortable tbody > tr:not(.detail)")) {
    const label = row.cells[0].textContent.toLowerCase();
    row.hidden = !words.every((word) => label.includes(word));
    if (opened.has(row)) opened.get(row).hidden = row.hidden || !isOpen(row);
  }
  const shown = all(".comparison-group:not([hidden]) tr[data-entry]").filter((row) => !row.hidden);
  document.getElementById("count").value = `${shown.length} of ${all("tr[data-entry]").length} rows`;
  for (const section of all("section.table")) {
    section.querySelector(".none").hidden = all("tr[data-entry]", section).some((row) => !row.hidden);
  }
}

// Opening a row: its details move from below the table into it, and are drawn the first time.

const opened = new Map();
const isOpen = (row) => row.cells[0].querySelector("button").getAttribute("aria-expanded") === "true";

function openable(row) {
  const link = row.cells[0].querySelector("a");
  const button = make("button", { type: "button", "aria-expanded": "false" }, ...link.childNodes);
  link.replaceWith(button);
  button.addEventListener("click", () => toggle(row));
}

function toggle(row) {
  if (!opened.has(row)) opened.set(row, detail(row));
  const open = !isOpen(row);
  row.cells[0].querySelector("button").setAttribute("aria-expanded", open);
  row.classList.toggle("open", open);
  opened.get(row).hidden = !open;
}

function detail(row) {
  const id = row.dataset.entry;
  const entry = document.getElementById(id).querySelector(".entry");
  const cell = make("td", { colspan: row.cells.length }, entry);
  const added = make("tr", { class: "detail", id: `${id}-detail` }, cell);
  row.cells[0].querySelector("button").setAttribute("aria-controls", added.id);
  row.after(added);
  const table = data.tables[row.closest("section").id];
  for (const [view, picture] of Object.entries(data.rows[id])) {
    entry.querySelector(`[data-view=${view}]`).replaceChildren(pictures[view](picture, table));
  }
  for (const bibtex of all(".bibtex", entry)) bibtex.after(copying(bibtex));
  return added;
}

function copying(text) {
  const button = make("button", { type: "button", class: "button" }, "Copy BibTeX");
  const said = make("span", { role: "status" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      said.textContent = " Copied.";
    } catch {
      getSelection().selectAllChildren(text);
      said.textContent = " Selected: copy it with Ctrl+C.";
    }
  });
  return make("p", {}, button, said);
}

// Pictures.

function figure(picture, caption) {
  return make("figure", {}, picture, make("figcaption", {}, caption));
}

function axes(width, height, label, horizontal, vertical) {
  const chart = draw("svg", { class: "chart", viewBox: `-38 -8 ${width + 48} ${height + 48}`, role: "img", "aria-label": label });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    chart.append(draw("text", { x: -6, y: height * (1 - share) + 4, "text-anchor": "end" }, `${100 * share}`));
  }
  chart.append(
    draw("text", { x: width / 2, y: height + 34, "text-anchor": "middle" }, horizontal),
    draw("text", { transform: `translate(-30 ${height / 2}) rotate(-90)`, "text-anchor": "middle" }, vertical),
    draw("path", { class: "axis", d: `M0 0V${height}H${width}` }),
  );
  return chart;
}

const pictures = {
  reliability({ images, confidence, accuracy, low, high }) {
    const side = 220, width = side / images.length, largest = Math.max(...images);
    const chart = axes(side, side, "Reliability diagram: accuracy against confidence", "confidence, %", "accuracy, %");
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      chart.append(draw("text", { x: side * share, y: side + 16, "text-anchor": "middle" }, `${100 * share}`));
    }
    images.forEach((count, bin) => {
      if (!count) return;
      const top = side * (1 - accuracy[bin]), mean = side * (1 - confidence[bin]), x = bin * width + 1;
      const words = `${count} images, confidence ${(100 * confidence[bin]).toFixed(1)} %, accuracy ${(100 * accuracy[bin]).toFixed(1)} %`;
      const bar = { x, width: width - 2, "fill-opacity": 0.35 + 0.65 * Math.sqrt(count / largest) };
      chart.append(
        draw("rect", { class: "value", ...bar, y: top, height: side - top }, draw("title", {}, words)),
        draw("rect", { class: "gap", x, width: width - 2, y: Math.min(top, mean), height: Math.abs(top - mean) }),
        draw("path", { class: "consistency", d: `M${x + width / 2 - 1} ${side * (1 - low[bin])}V${side * (1 - high[bin])}` }),
      );
    });
    chart.append(draw("path", { class: "ideal", d: `M0 ${side}L${side} 0` }));
    return figure(chart, "Bars: accuracy of each bin, pale where it has few images. Orange: its gap to the mean confidence. Dashed: perfect calibration. Thick lines: consistency bars, within which 95 % of the accuracies of a calibrated model lie.");
  },

  classes({ accuracy }, { names, images, groups }) {
    const width = 320, height = 180;
    const chart = axes(width, height, "Accuracy of each class, most training images first", "classes, most training images first", "accuracy, %");
    accuracy.forEach((value, place) => {
      if (value === null) return;
      const at = { cx: ((place + 0.5) * width) / accuracy.length, cy: height * (1 - value / 100) };
      chart.append(draw("circle", { class: "dot", r: accuracy.length > 200 ? 1.2 : 2.2, ...at, "data-group": groups[place] },
        draw("title", {}, `${names[place]}: ${value} % (${images[place]} training images)`)));
    });
    return figure(chart, "Each dot is a class: blue many-shot, green medium-shot, orange few-shot, from left to right.");
  },

  confusion({ counts, levels }, { names }) {
    return counts ? matrix(counts, names) : heat(levels, names.length);
  },
};

function matrix(counts, names) {
  const head = make("tr", {}, make("td"), ...names.map((name) => make("th", { scope: "col" }, name)));
  const rows = counts.map((row, place) => {
    const total = Math.max(1, row.reduce((sum, count) => sum + count, 0));
    const cells = row.map((count) => {
      const cell = make("td", {}, `${count || "·"}`);
      cell.style.setProperty("--level", Math.sqrt(count / total).toFixed(2));
      return cell;
    });
    return make("tr", {}, make("th", { scope: "row" }, names[place]), ...cells);
  });
  const caption = make("caption", {}, "Test images of all seeds by class (down) and predicted class (across)");
  const table = make("table", { class: "matrix" }, caption, make("thead", {}, head), make("tbody", {}, ...rows));
  return make("div", { class: "box", tabindex: "0", role: "region", "aria-label": "Confusion matrix" }, table);
}

const LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

function heat(levels, classes) {
  const side = levels.length;
  const canvas = make("canvas", { width: side, height: side, role: "img", "aria-label": "Confusion matrix as a heat map; the most frequent confusions are listed below it" });
  const context = canvas.getContext("2d");
  levels.forEach((row, y) => [...row].forEach((level, x) => {
    context.fillStyle = `rgb(40 130 200 / ${LEVELS.indexOf(level) / (LEVELS.length - 1)})`;
    context.fillRect(x, y, 1, 1);
  }));
  const shared = classes > side ? ` Neighbours share a cell: ${classes} classes in ${side} cells.` : "";
  return figure(canvas, `Class (down) and predicted class (across), most training images first; stronger is a larger share of the class's images.${shared}`);
}

// Light and dark. A browser that keeps nothing for local files still switches.

function remembered(value) {
  try {
    if (value) localStorage.setItem("ltbench-theme", value);
    return localStorage.getItem("ltbench-theme");
  } catch {
    return null;
  }
}

function themes(button) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const say = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  const before = remembered();
  if (before === "light" || before === "dark") root.dataset.theme = before;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remembered(root.dataset.theme);
    say();
  });
  system.addEventListener("change", say);
  button.hidden = false;
  say();
}

root.classList.add("js");
themes(document.getElementById("theme"));
all("table.sortable").forEach(sortable);
all("tr[data-entry]").forEach(openable);
all(".tall").forEach((box) => fitting.observe(box));
const filters = document.querySelector(".filters");
filters.hidden = false;
filters.addEventListener("input", show);
filters.addEventListener("submit", (event) => event.preventDefault());
show();
const linked = document.querySelector(`tr[data-entry="${CSS.escape(location.hash.slice(1))}"]`);
if (linked) toggle(linked);
