// The roadmap: one bar a step from top to bottom, its numbers beside it, drawn anew for each width.

const NARROW = 620; // pixels, as below
const NAMES = 160;
const BARS = 200;

function fonts() {
  const family = getComputedStyle(document.body).fontFamily;
  return { text: `14px ${family}`, strong: `600 14px ${family}`, bold: `600 12px ${family}` };
}

// The axis in percent, as in `roadmap figure`: cropped to what is drawn, the shortest bar still to be seen.
function limits(bars) {
  const ends = bars.flatMap((bar) => [
    known(bar.top1) ? bar.top1 - (bar.top1_std ?? 0) : null,
    known(bar.top1) ? bar.top1 + (bar.top1_std ?? 0) : null,
    bar.paper_top1,
  ]).filter(known);
  if (!ends.length) return [0, 100];
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const span = Math.max(high - low, 1);
  return [Math.max(high - 1.15 * span, 0), Math.max(high + 0.04 * span, 1)];
}

// Whether a change is more than chance, as `roadmap compare` says it.
function isTold(bar) {
  return known(bar.delta_p_holm) && bar.delta_p_holm < 0.05;
}

// The columns of numbers right of the bars; one that would be empty is left out.
function numberColumns(section, bars) {
  const unit = section.mac_factor === 1 ? "GFLOPs" : "MFLOPs";
  const all = [
    { head: ["top-1 (%)"], cell: (bar) => meanStd(bar), strong: true },
    { head: ["Δ"], cell: (bar) => (known(bar.delta) ? signed(bar.delta) : ""), strongIf: isTold },
    { head: [unit, "(MACs)"], cell: (bar) => (known(bar.gmacs) ? number(bar.gmacs * section.mac_factor) : "") },
    { head: ["paper", "top-1"], cell: (bar) => (known(bar.paper_top1) ? number(bar.paper_top1) : ""), grey: true },
    { head: ["paper", "Δ"], cell: (bar) => (known(bar.paper_delta) ? signed(bar.paper_delta) : ""), grey: true },
  ];
  return all.filter((column) => bars.some((bar) => column.cell(bar) !== ""));
}

function layout(section, bars, width) {
  const wide = arranged(section, bars, width, width < NARROW);
  return wide.right - wide.left < BARS ? arranged(section, bars, width, true) : wide;
}

// Labels and numbers beside the bars, or, where it is narrow, above each.
function arranged(section, bars, width, narrow) {
  const font = fonts();
  const columns = narrow ? [] : numberColumns(section, bars);
  for (const column of columns) {
    const style = column.strong || column.strongIf ? font.strong : font.text;
    const cells = [...bars.map((bar) => column.cell(bar)), ...column.head];
    column.width = Math.min(Math.max(...cells.map((cell) => textWidth(cell, style))), 190) + 18;
  }
  const names = narrow ? 0 : Math.min(Math.max(...bars.map((bar) => textWidth(bar.section, font.bold))), NAMES);
  const labels = narrow ? 0 : Math.min(Math.max(...bars.map((bar) => textWidth(bar.label, font.text))), width * (section.kind === "path" ? 0.28 : 0.4));
  const left = narrow ? 2 : (names ? names + 28 : 8) + labels + 10;
  const right = width - columns.reduce((sum, column) => sum + column.width, 0) - (narrow ? 4 : 8);
  const height = narrow ? 46 : 30;
  let y = narrow ? 4 : 40;
  const rows = bars.map((bar, index) => {
    const opens = index === 0 || bars[index - 1].section !== bar.section;
    if (narrow && opens && bar.section) y += 26;
    const row = { bar, y, opens };
    y += height;
    return row;
  });
  return { font, narrow, columns, left, right, height, rows, bottom: y, labels };
}

function barChart(section, bars, width, open, isOpen) {
  const plan = layout(section, bars, width);
  const [low, high] = limits(bars);
  const x = (value) => plan.left + ((value - low) / (high - low)) * (plan.right - plan.left);
  const svg = draw("svg", {
    width, height: plan.bottom + 44, viewBox: `0 0 ${width} ${plan.bottom + 44}`, role: "group", class: "bars",
    "aria-label": `${section.title}: top-1 accuracy, one bar a row`,
  });
  const { grounds, names } = bands(plan, width);
  svg.append(hatching(section.hatch), grounds, axis(plan, x, low, high));
  let y = 0;
  for (const column of [...plan.columns].reverse()) {
    const at = width - 8 - y;
    column.head.forEach((line, index) => svg.append(draw("text", {
      x: at, y: 32 - 14 * (column.head.length - 1 - index), class: "head", "text-anchor": "end",
    }, line)));
    y += column.width;
  }
  let shade = -1;
  for (const row of plan.rows) {
    if (row.opens) shade += 1;
    svg.append(barRow(section, plan, row, x, shade % 2, width, open, isOpen));
  }
  svg.append(names);
  return svg;
}

function hatching(id) {
  const pattern = draw("pattern", { id, width: 6, height: 6, patternUnits: "userSpaceOnUse",
    patternTransform: "rotate(45)" },
  draw("rect", { width: 6, height: 6, class: "left-ground" }), draw("line", { y2: 6, class: "left-line" }));
  return draw("defs", {}, pattern);
}

// Grounds of every other section, and the sections' names.
function bands(plan, width) {
  const grounds = draw("g", { "aria-hidden": "true" });
  const names = draw("g", { "aria-hidden": "true" });
  let start = 0;
  let count = 0;
  plan.rows.forEach((row, index) => {
    const next = plan.rows[index + 1];
    if (next && !next.opens) return;
    const first = plan.rows[start];
    const top = first.y - (plan.narrow && first.bar.section ? 26 : 0);
    const bottom = row.y + plan.height;
    if (count % 2 === 0) grounds.append(draw("rect", { y: top, width, height: bottom - top, rx: 4, class: "band" }));
    if (first.bar.section) {
      const at = plan.narrow ? { x: 8, y: top + 19 } : { x: 12, y: (top + bottom) / 2 + 4 };
      const room = plan.narrow ? width - 16 : NAMES;
      names.append(draw("text", { ...at, class: "section-name" }, fitted(first.bar.section, room, plan.font.bold)));
    }
    start = index + 1;
    count += 1;
  });
  return { grounds, names };
}

function axis(plan, x, low, high) {
  const group = draw("g", { "aria-hidden": "true" });
  const top = plan.rows[0].y;
  for (const tick of ticks(low, Math.min(high, 100), Math.min((plan.right - plan.left) / 60, 7))) {
    group.append(draw("line", { x1: x(tick), x2: x(tick), y1: top, y2: plan.bottom, class: "grid" }));
    group.append(draw("text", { x: x(tick), y: plan.bottom + 17, class: "tick", "text-anchor": "middle" }, String(tick)));
  }
  const middle = (plan.left + plan.right) / 2;
  group.append(draw("text", { x: middle, y: plan.bottom + 37, class: "tick", "text-anchor": "middle" },
    "top-1 accuracy (%)"));
  return group;
}

function barRow(section, plan, row, x, shade, width, open, isOpen) {
  const { bar } = row;
  const { narrow } = plan;
  const group = draw("g", {
    class: `row${isOpen(bar) ? " open" : ""}`, tabindex: "0", role: "button", "aria-expanded": String(isOpen(bar)),
    "aria-label": `${bar.label}: ${meanStd(bar)}${known(bar.delta) ? `, change ${signed(bar.delta)}` : ""}`
      + `${bar.adopted ? "" : ", tried, not adopted"}; opens the learning curves`,
  });
  group.append(draw("rect", { x: 1, y: row.y + 1, width: width - 2, height: plan.height - 2, rx: 4, class: "hit" }));
  const thick = narrow ? 15 : 19;
  const style = isOpen(bar) ? plan.font.strong : plan.font.text;
  const top = narrow ? row.y + 25 : row.y + (plan.height - thick) / 2;
  if (narrow) {
    const room = width - 32 - textWidth(meanStd(bar), plan.font.strong);
    group.append(draw("text", { x: 8, y: row.y + 19, class: "label name" }, fitted(bar.label, room, style)));
    group.append(draw("text", { x: width - 8, y: row.y + 19, class: "label strong", "text-anchor": "end" }, meanStd(bar)));
  } else {
    group.append(draw("text", { x: plan.left - 10, y: row.y + 20, class: "label name", "text-anchor": "end" },
      fitted(bar.label, plan.labels, style)));
  }
  if (known(bar.top1)) {
    const kind = bar.adopted ? `shade-${shade}` : "not-adopted";
    group.append(draw("rect", { x: plan.left, y: top, width: Math.max(x(bar.top1) - plan.left, 1), height: thick,
      class: `bar ${kind}`, rx: 1.5, fill: bar.adopted ? null : `url(#${section.hatch})` }));
    if (known(bar.top1_std)) group.append(whisker(x(bar.top1 - bar.top1_std), x(bar.top1 + bar.top1_std), top + thick / 2));
  }
  if (known(bar.paper_top1)) {
    group.append(draw("path", { d: `M${x(bar.paper_top1)} ${top + thick - 6}l6 6l-6 6l-6 -6z`, class: "paper-mark" }));
  }
  let at = width - 8;
  for (const column of [...plan.columns].reverse()) {
    const strong = column.strong || column.strongIf?.(bar);
    group.append(draw("text", { x: at, y: row.y + 20, "text-anchor": "end",
      class: `label${column.grey ? " grey" : ""}${strong ? " strong" : ""}` },
    fitted(column.cell(bar), column.width - 8, strong ? plan.font.strong : plan.font.text)));
    at -= column.width;
  }
  group.addEventListener("pointerenter", (event) => {
    if (event.pointerType !== "touch") showTip(section, bar, group, event.clientX);
  });
  group.addEventListener("pointerleave", hideTip);
  group.addEventListener("focus", () => { if (group.matches(":focus-visible")) showTip(section, bar, group, null); });
  group.addEventListener("blur", hideTip);
  group.addEventListener("click", () => open(bar));
  group.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      open(bar);
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const rows = [...group.parentNode.querySelectorAll(".row")];
      rows[rows.indexOf(group) + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
    }
  });
  return group;
}

function whisker(from, to, y) {
  const d = `M${from} ${y}H${to}M${from} ${y - 3.5}v7M${to} ${y - 3.5}v7`;
  return draw("g", {}, draw("path", { d, class: "halo" }), draw("path", { d, class: "whisker" }));
}
