// Learning curves: a line a seed, and their mean where all seeds have logged the epoch.

const METRIC_NAMES = { top1: "top-1 (%)", val_loss: "validation loss", train_loss: "training loss" };
let metric = "top1";

// The points of a run as pairs of epoch and value.
function points(run, name) {
  const { grids, metrics, runs } = curves();
  const curve = runs[run];
  const values = curve?.[1 + metrics.indexOf(name)];
  if (!values) return [];
  return values.map((value, index) => [grids[curve[0]][index], value]).filter(([, value]) => known(value));
}

function meanPoints(lines) {
  const sums = new Map();
  for (const line of lines) {
    for (const [epoch, value] of line) {
      const [sum, count] = sums.get(epoch) ?? [0, 0];
      sums.set(epoch, [sum + value, count + 1]);
    }
  }
  return [...sums].filter(([, [, count]]) => count === lines.length)
    .map(([epoch, [sum, count]]) => [epoch, sum / count]).sort((a, b) => a[0] - b[0]);
}

// A panel with curves of up to two named sets of runs; ``close`` null: it cannot be closed.
function curvePanel(panel, title, named, close) {
  const plot = make("div", { class: "plot" });
  let late = false;
  let width = 0;
  const group = `metric-${panel.id}`;
  const sets = () => named.map((set) => {
    const lines = set.runs.map((run) => points(run, metric)).filter((line) => line.length);
    return { ...set, lines, mean: meanPoints(lines) };
  });
  function render() {
    if (width > 0) plot.replaceChildren(...curvePlot(sets(), width, late));
  }
  const choices = Object.entries(METRIC_NAMES).map(([name, text]) => make("label", {},
    make("input", { type: "radio", name: group, value: name, checked: name === metric,
      onchange: () => { metric = name; render(); } }), make("span", {}, text)));
  const half = make("label", { class: "check" },
    make("input", { type: "checkbox", onchange: (event) => { late = event.target.checked; render(); } }),
    "second half only");
  panel.replaceChildren(
    make("div", { class: "panel-head" }, make("h3", {}, title),
      close ? make("button", { type: "button", class: "close", "aria-label": "Close the learning curves", onclick: close }, "Close") : null),
    make("div", { class: "controls" },
      make("fieldset", { class: "choices" }, make("legend", { class: "unseen" }, "What is drawn"), choices), half),
    plot,
    ...(curves().thinned ? [make("p", { class: "fine" },
      `Curves of this page have at most ${curves().points} of their epochs; the last one is always among them.`)] : []),
  );
  if (close) panel.onkeydown = (event) => { if (event.key === "Escape") close(); };
  const observer = new ResizeObserver(() => {
    if (!plot.isConnected) { observer.disconnect(); return; }
    if (plot.clientWidth !== width) { width = plot.clientWidth; render(); }
  });
  observer.observe(plot);
}

function curvePlot(sets, width, late) {
  const all = sets.flatMap((set) => set.lines.flat());
  if (!all.length) return [make("p", { class: "note" }, "These runs have logged no such curve yet.")];
  const last = Math.max(...all.map(([epoch]) => epoch));
  const first = late ? Math.floor(last / 2) : Math.min(...all.map(([epoch]) => epoch));
  const seen = all.filter(([epoch]) => epoch >= first).map(([, value]) => value);
  let [low, high] = [Infinity, -Infinity];
  for (const value of seen) { low = Math.min(low, value); high = Math.max(high, value); }
  const margin = Math.max((high - low) * 0.06, 1e-6);
  [low, high] = [low - margin, high + margin];
  const height = Math.round(Math.min(340, Math.max(230, width * 0.42)));
  const box = { left: 46, right: width - 10, top: 10, bottom: height - 42 };
  const x = (epoch) => box.left + ((epoch - first) / Math.max(last - first, 1)) * (box.right - box.left);
  const y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
  const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", class: "lines",
    "aria-label": `${METRIC_NAMES[metric]} by epoch of ${sets.map((set) => set.name).join(" and ")}` });
  for (const tick of ticks(low, high, 5)) {
    svg.append(draw("line", { x1: box.left, x2: box.right, y1: y(tick), y2: y(tick), class: "grid" }));
    svg.append(draw("text", { x: box.left - 8, y: y(tick) + 4, class: "tick", "text-anchor": "end" }, String(tick)));
  }
  for (const tick of ticks(first, last, width < 500 ? 5 : 10).filter(Number.isInteger)) {
    svg.append(draw("text", { x: x(tick), y: box.bottom + 18, class: "tick", "text-anchor": "middle" }, String(tick)));
  }
  svg.append(draw("text", { x: (box.left + box.right) / 2, y: height - 6, class: "tick", "text-anchor": "middle" }, "epoch"));
  const path = (line) => line.filter(([epoch]) => epoch >= first)
    .map(([epoch, value], index) => `${index ? "L" : "M"}${x(epoch).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  [...sets.entries()].reverse().forEach(([number, set]) => {
    for (const line of set.lines) svg.append(draw("path", { d: path(line), class: `seed line-${number}` }));
    svg.append(draw("path", { d: path(set.mean), class: `mean line-${number}` }));
  });
  const readout = make("p", { class: "readout", "aria-live": "off" });
  const cross = draw("line", { y1: box.top, y2: box.bottom, class: "cross", visibility: "hidden" });
  svg.append(cross);
  const epochs = [...new Set(all.map(([epoch]) => epoch))].filter((epoch) => epoch >= first).sort((a, b) => a - b);
  const tell = (epoch) => {
    readout.replaceChildren(`epoch ${epoch}: `, ...sets.flatMap((set, index) => {
      const mean = set.mean.find(([at]) => at === epoch)?.[1] ?? null;
      const values = set.lines.map((line) => line.find(([at]) => at === epoch)?.[1]).filter(known);
      const range = values.length > 1 ? ` (${significant(Math.min(...values))} to ${significant(Math.max(...values))})` : "";
      return [make("span", { class: `name-${index}` }, `${set.name} ${significant(mean)}${range}`), index + 1 < sets.length ? "; " : ""];
    }));
  };
  tell(epochs.at(-1));
  svg.addEventListener("pointermove", (event) => {
    const at = first + ((event.clientX - svg.getBoundingClientRect().left - box.left) / (box.right - box.left)) * (last - first);
    const nearest = epochs.reduce((best, epoch) => (Math.abs(epoch - at) < Math.abs(best - at) ? epoch : best));
    cross.setAttribute("x1", x(nearest));
    cross.setAttribute("x2", x(nearest));
    cross.setAttribute("visibility", "visible");
    tell(nearest);
  });
  svg.addEventListener("pointerleave", () => { cross.setAttribute("visibility", "hidden"); tell(epochs.at(-1)); });
  const names = sets.map((set, index) => make("span", { class: "key" }, make("i", { class: `swatch stroke-${index}` }),
    `${set.name}, ${set.lines.length === 1 ? "one seed" : `mean and ${set.lines.length} seeds`}`));
  return [make("p", { class: "legend" }, names), svg, readout];
}
