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

// What a reader has chosen stands in the address: the data set, the filter, the order of tables, the opened row.

const sections = all(".data-set");
const filters = all(".filters");

function chosen() {
  const hash = location.hash.slice(1);
  const state = new URLSearchParams(hash.includes("=") ? hash : "");
  const linked = hash && !hash.includes("=") ? document.getElementById(decoded(hash)) : null;
  if (linked?.matches(".entries > details")) state.set("row", linked.id);
  const section = (linked ?? document.getElementById(state.get("row") ?? ""))?.closest(".data-set");
  if (section) state.set("data", section.id);
  return { state, linked };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // e.g. "100%"
  }
}

function choose(changes, push = false) {
  const { state } = chosen();
  for (const [name, value] of Object.entries(changes)) {
    if (value) state.set(name, value);
    else state.delete(name);
  }
  history[push ? "pushState" : "replaceState"]({ pushed: push }, "", `#${state}`);
  show();
}

function show() {
  const { state, linked } = chosen();
  const section = sections.find((one) => one.id === state.get("data")) ?? sections[0];
  for (const one of sections) one.hidden = one !== section;
  for (const tab of all(".tabs a")) {
    if (tab.hash === `#${section.id}`) tab.setAttribute("aria-current", "true");
    else tab.removeAttribute("aria-current");
  }
  for (const one of all(".figures")) one.hidden = one.dataset.of !== section.id;
  for (const table of all("table.leaderboard")) {
    const [, key, direction] = (state.getAll("sort").find((one) => one.startsWith(`${owner(table)}.`)) ?? "").split(".");
    order(table, key, direction);
    table.classList.toggle("whole", state.get("columns") === "all");
  }
  for (const box of all(".more input")) box.checked = state.get("columns") === "all";
  filtered(state.get("filter") ?? "");
  drawer(state.get("row"));
  if (linked?.matches(".table, details:not(.entries > *)")) {
    linked.open = true;
    linked.scrollIntoView();
  }
  for (const area of all(".area", section)) {
    reachable(area);
    uncrowd(area);
  }
}

// Sorting: numbers by value, words by alphabet, what is not available last whichever way.

const numbers = new Intl.Collator("en", { numeric: true });
const orders = new Map();
const owner = (table) => table.closest("section").id;
const further = (row) => all("tr.other", row.parentNode).filter((one) => one.dataset.of === row.dataset.entry);
const other = (direction) => (direction === "ascending" ? "descending" : "ascending");
const first = (heading) => heading.dataset.first || (heading.cellIndex ? "descending" : "ascending");

function sortable(table) {
  orders.set(table, [...table.tBodies[0].rows].filter((row) => !row.matches(".other")).map((row) => [row, ...further(row)]));
  for (const heading of table.tHead.rows[0].cells) {
    const button = make("button", { type: "button" }, ...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      press(table, heading, now === first(heading) ? other(now) : first(heading));
    });
  }
  const select = table.matches(".leaderboard") && table.closest("section").querySelector(".order select");
  if (!select) return;
  select.append(make("option", { value: "" }, "rank"), ...[...table.tHead.rows[0].cells].map((heading) =>
    make("option", { value: heading.dataset.key ?? "method" }, heading.textContent.trim().replace(/\s+/g, " "))));
  select.addEventListener("change", () => {
    const heading = named(table, select.value);
    if (heading) press(table, heading, first(heading));
    else sorts(table, null);
  });
}

const named = (table, key) => [...table.tHead.rows[0].cells].find((one) => (one.dataset.key ?? "method") === key);

function press(table, heading, direction) {
  if (table.matches(".leaderboard")) sorts(table, `${owner(table)}.${heading.dataset.key ?? "method"}.${direction}`);
  else sort(table, heading, direction);
}

function sorts(table, value) {
  const { state } = chosen();
  const rest = state.getAll("sort").filter((one) => !one.startsWith(`${owner(table)}.`));
  state.delete("sort");
  for (const one of value ? [...rest, value] : rest) state.append("sort", one);
  history.replaceState(history.state, "", `#${state}`);
  show();
}

function order(table, key, direction) {
  const heading = key && named(table, key);
  const select = table.closest("section").querySelector(".order select");
  if (select) select.value = heading ? key : "";
  if (heading) sort(table, heading, direction === "ascending" ? "ascending" : "descending");
  else sort(table, null);
}

function sort(table, heading, direction) {
  for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
  heading?.setAttribute("aria-sort", direction);
  table.classList.toggle("original", !heading);
  const sign = direction === "ascending" ? 1 : -1;
  const key = ([row]) => row.cells[heading.cellIndex];
  const rows = [...orders.get(table)];
  if (heading?.cellIndex === 0) rows.sort((a, b) => sign * numbers.compare(key(a).textContent, key(b).textContent));
  else if (heading) rows.sort((a, b) => compare(key(a).dataset.value, key(b).dataset.value, sign));
  const sorted = rows.flat(), body = table.tBodies[0];
  if (sorted.some((row, place) => body.rows[place] !== row)) body.append(...sorted);
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

// Filtering: every word must occur in the label of a row. Where only other settings of a row fit, these are opened.

function filtered(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (row) => {
    const label = row.cells[0].textContent.toLowerCase();
    return words.every((word) => label.includes(word));
  };
  for (const row of all(".sortable tbody > tr:not(.other)")) {
    const others = further(row), own = fits(row);
    const button = row.querySelector(".further button");
    const opened = button?.getAttribute("aria-expanded") === "true";
    for (const one of others) one.hidden = own ? !opened : !fits(one);
    row.hidden = !own && others.every((one) => one.hidden);
    if (button) button.disabled = !own; // the filter has opened what fits
  }
  for (const point of all(".point")) {
    point.hidden = document.querySelector(`tr[data-entry="${point.dataset.point}"]`).hidden;
  }
  for (const section of sections) {
    const rows = all("tr[data-entry]", section), shown = rows.filter((row) => !row.hidden);
    const tab = document.querySelector(`.tabs a[href="#${section.id}"] .count`);
    if (tab) tab.textContent = shown.length;
    section.querySelector(".filters output").value = words.length ? `${shown.length} of ${rows.length} rows` : "";
  }
  for (const section of all("section.table")) {
    section.querySelector(".none").hidden = all("tr[data-entry]", section).some((row) => !row.hidden);
  }
  for (const filter of filters) {
    const input = filter.querySelector("input");
    if (input.value !== text) input.value = text;
  }
}

// A row opens as a sheet: its details move into it from below the table, and are drawn the first time.

const sheet = document.body.appendChild(make("dialog", { class: "drawer", "aria-labelledby": "drawer-title" }));
const drawn = new Set();

function openable(row) {
  const link = row.cells[0].querySelector("a");
  const button = make("button", { type: "button", class: "opens", "aria-haspopup": "dialog" }, ...link.childNodes);
  link.replaceWith(button);
  button.addEventListener("click", () => choose({ row: row.dataset.entry }, true));
  const more = row.cells[0].querySelector(".further");
  if (more) {
    const opens = make("button", { type: "button", "aria-expanded": "false" }, ...more.childNodes);
    more.append(opens);
    opens.addEventListener("click", () => {
      opens.setAttribute("aria-expanded", opens.getAttribute("aria-expanded") === "false");
      show();
    });
  }
  const point = document.querySelector(`.point[data-point="${row.dataset.entry}"]`);
  if (!point) return;
  const both = (lit) => { for (const one of [row, point]) one.classList.toggle("lit", lit); };
  for (const one of [row, point]) {
    one.addEventListener("mouseenter", () => both(true));
    one.addEventListener("mouseleave", () => both(false));
    one.addEventListener("focusin", () => both(true));
    one.addEventListener("focusout", () => both(false));
  }
  point.addEventListener("click", (event) => {
    event.preventDefault();
    row.scrollIntoView({ block: "nearest" });
    button.focus();
  });
}

function drawer(id) {
  const entry = id && document.getElementById(id);
  if (sheet.dataset.entry && sheet.dataset.entry !== id) {
    document.getElementById(sheet.dataset.entry).append(sheet.querySelector(".entry"));
    delete sheet.dataset.entry;
    sheet.replaceChildren();
  }
  if (!entry || !data.rows[id]) {
    if (sheet.open) sheet.close();
    return;
  }
  if (sheet.dataset.entry === id) return;
  const body = entry.querySelector(".entry");
  const close = make("button", { type: "button", class: "button" }, "Close");
  close.addEventListener("click", () => sheet.close());
  const title = make("h2", { id: "drawer-title" }, entry.querySelector("summary").textContent);
  const table = make("p", { class: "of" }, document.querySelector(`#${entry.closest("section.table").id}-title`).textContent);
  sheet.append(make("header", {}, make("div", {}, title, table), close), body);
  sheet.dataset.entry = id;
  if (!drawn.has(id)) detail(id, body);
  if (!sheet.open) sheet.showModal();
  sheet.scrollTop = 0;
}

sheet.addEventListener("close", () => {
  if (!sheet.dataset.entry) return;
  if (history.state?.pushed) history.back();
  else choose({ row: null });
});
sheet.addEventListener("click", (event) => { if (event.target === sheet) sheet.close(); });

function detail(id, entry) {
  drawn.add(id);
  const table = data.tables[document.getElementById(id).closest("section.table").id];
  for (const [view, picture] of Object.entries(data.rows[id])) {
    entry.querySelector(`[data-view=${view}]`).replaceChildren(pictures[view](picture, table));
  }
}

// The plot: one stop of the Tab key, arrows go from point to point; names of the front where they have room.

function pointed(area) {
  const points = all(".point", area).sort((a, b) => parseFloat(a.style.left) - parseFloat(b.style.left));
  for (const point of points) point.tabIndex = -1;
  if (points.length) points[0].tabIndex = 0;
  area.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    const shown = points.filter((point) => !point.hidden);
    const next = step && shown[shown.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    for (const point of points) point.tabIndex = point === next ? 0 : -1;
    next.focus();
  });
}

function reachable(area) {
  const points = all(".point", area), shown = points.filter((point) => !point.hidden);
  if (!shown.length || shown.some((point) => point.tabIndex === 0)) return;
  for (const point of points) point.tabIndex = point === shown[0] ? 0 : -1;
}

// The front leaves a point to the right and reaches it from below: names stand above it, where no line strikes them.
const SIDES = ["over", "left", "corner", "under"];

// The table's first row is named before others, then the front from its accurate end.
const rank = (point) => (point.matches(".leads") ? -1000 : 0) - parseFloat(point.style.bottom);

function uncrowd(area) {
  const taken = all(".point:not([hidden])", area).map((point) => point.getBoundingClientRect()).map((box) =>
    ({ left: box.left + 6, right: box.right - 6, top: box.top + 6, bottom: box.bottom - 6 }));
  const edge = area.getBoundingClientRect();
  for (const point of all(".point:is(.front, .leads):not([hidden])", area).sort((a, b) => rank(a) - rank(b))) {
    const free = SIDES.find((side) => {
      point.classList.remove("crowded", ...SIDES);
      point.classList.add(side);
      const box = point.querySelector("span").getBoundingClientRect();
      const hits = (one) => one.left < box.right && one.right > box.left && one.top < box.bottom && one.bottom > box.top;
      const inside = box.left >= edge.left + 2 && box.right <= edge.right && box.bottom <= edge.bottom && box.top >= edge.top - 20;
      if (!inside || taken.some(hits)) return false;
      taken.push(box);
      return true;
    });
    if (free) continue;
    point.classList.remove(...SIDES);
    point.classList.toggle("left", parseFloat(point.style.left) > 60);
    point.classList.add("crowded");
  }
}

// What a column means: beside its heading, by mouse, keyboard and touch.

const tip = document.body.appendChild(make("div", { id: "tip", role: "tooltip", hidden: "" }));

function explained(table) {
  const meanings = all(".meanings dd", table.closest("section")).map((one) => one.textContent);
  [...table.tHead.rows[0].cells].slice(1).forEach((heading, place) => {
    const button = heading.querySelector("button");
    const tell = () => {
      tip.textContent = meanings[place];
      tip.hidden = false;
      const box = heading.getBoundingClientRect();
      tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${box.bottom + 6}px`;
      button.setAttribute("aria-describedby", "tip");
    };
    const hush = () => { tip.hidden = true; button.removeAttribute("aria-describedby"); };
    for (const kind of ["mouseenter", "focusin", "click"]) heading.addEventListener(kind, tell);
    for (const kind of ["mouseleave", "focusout"]) heading.addEventListener(kind, hush);
  });
}

document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

function copying(text) {
  const button = make("button", { type: "button", class: "button" }, "Copy");
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
all("table.leaderboard").forEach(explained);
all(".area").forEach(pointed);
all(".copied").forEach((text) => text.after(copying(text)));
all(".tall").forEach((box) => fitting.observe(box));
for (const one of all(".filters, .order, .more")) one.hidden = false;
for (const one of filters) {
  one.addEventListener("input", () => choose({ filter: one.querySelector("input").value }));
  one.addEventListener("submit", (event) => event.preventDefault());
}
for (const box of all(".more input")) box.addEventListener("change", () => choose({ columns: box.checked && "all" }));
for (const tab of all(".tabs a")) {
  tab.addEventListener("click", (event) => {
    event.preventDefault();
    choose({ data: tab.hash.slice(1), row: null }, true);
  });
}
for (const link of all('.tools a[href^="#"]')) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const meanings = document.getElementById(link.hash.slice(1));
    meanings.open = true;
    meanings.scrollIntoView();
  });
}
addEventListener("popstate", show);
addEventListener("resize", () => all(".area").forEach(uncrowd));
show();
