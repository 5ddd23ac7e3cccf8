// Accuracy against the throughput that a bench measured: a dot a design, its name where there is room for it.

function speedPanel(section) {
  const dots = section.bars.filter((bar) => known(bar.bench) && known(bar.top1));
  if (!dots.length) return null;
  const plot = make("div", { class: "plot" });
  let last = 0;
  new ResizeObserver(() => {
    if (plot.clientWidth !== last) { last = plot.clientWidth; plot.replaceChildren(speedPlot(dots, last)); }
  }).observe(plot);
  const missing = section.bars.length - dots.length;
  return make("div", { class: "speed" }, make("h3", {}, "Accuracy against measured speed"), plot,
    make("p", { class: "fine" }, `${sentence(DATA.bench)} Lines: standard deviation of the accuracy. The axes span what was measured.`
      + `${missing ? ` Designs without a bench or a result: ${missing}.` : ""}`));
}

function speedPlot(dots, width) {
  const font = "12px system-ui, sans-serif";
  const height = Math.round(Math.min(400, Math.max(260, width * 0.45)));
  const box = { left: 52, right: width - 16, top: 12, bottom: height - 44 };
  const scale = (values, from, to) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = Math.max((high - low) * 0.1, 1e-6);
    const place = (value) => from + ((value - low + margin) / (high - low + 2 * margin)) * (to - from);
    return [place, ticks(low - margin, high + margin, 6)];
  };
  const std = (bar) => bar.top1_std ?? 0;
  const [x, speeds] = scale(dots.map((bar) => bar.bench), box.left, box.right);
  const [y, tops] = scale(dots.flatMap((bar) => [bar.top1 - std(bar), bar.top1 + std(bar)]), box.bottom, box.top);
  const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", class: "lines",
    "aria-label": "top-1 accuracy by measured images per second in inference" });
  for (const tick of tops) {
    svg.append(draw("line", { x1: box.left, x2: box.right, y1: y(tick), y2: y(tick), class: "grid" }));
    svg.append(draw("text", { x: box.left - 8, y: y(tick) + 4, class: "tick", "text-anchor": "end" }, String(tick)));
  }
  for (const tick of speeds) {
    svg.append(draw("text", { x: x(tick), y: box.bottom + 18, class: "tick", "text-anchor": "middle" }, String(tick)));
  }
  svg.append(draw("text", { x: (box.left + box.right) / 2, y: height - 6, class: "tick", "text-anchor": "middle" },
    "images per second in inference, measured by roadmap bench"));
  const taken = dots.map((bar) => [x(bar.bench) - 5, y(bar.top1) - 5, x(bar.bench) + 5, y(bar.top1) + 5]);
  for (const bar of dots) {
    const [cx, cy] = [x(bar.bench), y(bar.top1)];
    svg.append(draw("line", { x1: cx, x2: cx, y1: y(bar.top1 - std(bar)), y2: y(bar.top1 + std(bar)), class: "whisker" }));
    svg.append(draw("circle", { cx, cy, r: 4, class: bar.adopted ? "dot" : "dot left" },
      draw("title", {}, `${bar.label}: ${meanStd(bar)} %, ${significant(bar.bench)} images/s`)));
    const long = textWidth(bar.label, font);
    const places = [[8, 4], [-8 - long, 4], [-long / 2, -10], [-long / 2, 18]].map(([right, down]) => [cx + right, cy + down]);
    const free = places.find(([left, base]) => {
      const area = [left, base - 11, left + long, base + 3];
      const inside = area[0] >= box.left && area[2] <= box.right && area[1] >= 0 && area[3] <= box.bottom;
      return inside && !taken.some((other) => area[0] < other[2] && other[0] < area[2] && area[1] < other[3] && other[1] < area[3]);
    });
    if (!free) continue;
    taken.push([free[0], free[1] - 11, free[0] + long, free[1] + 3]);
    svg.append(draw("text", { x: free[0], y: free[1], class: "tick" }, bar.label));
  }
  return svg;
}
