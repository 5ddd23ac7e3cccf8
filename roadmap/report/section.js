// One chart with what belongs to it: tooltip, learning curves, verdicts, the command that makes its runs again.

const FIRST_BARS = 40;

// What is known of a bar, as pairs of name and value.
function facts(section, bar) {
  const changes = Object.entries(bar.changes ?? {}).map(([group, option]) => `${group}=${option}`).join(", ");
  const paper = section.scaled ? `paper's Δ (${section.paper}, ImageNet)` : "paper's Δ";
  const spread = known(bar.top1_std) ? ` ± ${number(bar.top1_std)}` : "";
  return [
    ["change", changes || null],
    ["tried", bar.adopted ? null : "not adopted"],
    ["top-1 (%)", known(bar.top1) ? `${number(bar.top1)}${spread}` : null],
    ["seeds finished", String(bar.n)],
    ["95 % interval", interval(bar.top1_low, bar.top1_high)],
    ["compared with", section.kind === "groups" && known(bar.delta) ? bar.parent : null],
    ["Δ to parent", known(bar.delta) ? signed(bar.delta) : null],
    ["Δ, 95 % interval", interval(bar.delta_low, bar.delta_high, signed)],
    ["p (Holm)", known(bar.delta_p_holm) ? `${pValue(bar.delta_p_holm)} (${bar.delta_n} ${bar.paired ? "pairs" : "seeds"})` : null],
    ["more seeds to resolve", known(bar.more_seeds) ? String(bar.more_seeds) : null],
    ["FLOPs (MACs)", known(bar.gmacs) ? macs(bar.gmacs, section.mac_factor) : null],
    ["parameters", known(bar.params_m) ? `${number(bar.params_m)} M` : null],
    ["images/s in inference, by bench", known(bar.bench) ? significant(bar.bench) : null],
    ["images/s", known(bar.images_per_second) ? significant(bar.images_per_second) : null],
    ["peak memory", known(bar.peak_memory_gb) ? `${number(bar.peak_memory_gb)} GiB` : null],
    ["training time", known(bar.train_seconds) ? duration(bar.train_seconds) : null],
    ["paper's top-1", known(bar.paper_top1)
      ? number(bar.paper_top1) + (known(bar.paper_top1_std) ? ` ± ${number(bar.paper_top1_std)}` : "") : null],
    ["paper's GFLOPs", known(bar.paper_gflops) ? number(bar.paper_gflops) : null],
    [paper, known(bar.paper_delta) ? signed(bar.paper_delta) : null],
    ["not finished", bar.unfinished || null],
  ].filter(([, value]) => value !== null);
}

function seedValues(bar) {
  return bar.runs.filter((run) => field("status", run) === "finished" && known(field("top1", run)))
    .map((run) => [field("seed", run), field("top1", run)]);
}

function showTip(section, bar, row, pointer) {
  const tip = document.getElementById("tip");
  const seeds = seedValues(bar);
  const listed = seeds.slice(0, 12).map(([seed, top1]) => make("li", {}, make("span", {}, `seed ${seed}`), ` ${number(top1)}`));
  if (seeds.length > 12) listed.push(make("li", {}, `and ${seeds.length - 12} more`));
  tip.replaceChildren(
    make("p", { class: "tip-title" }, bar.label),
    make("dl", {}, facts(section, bar).map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])),
    ...(seeds.length ? [make("ul", {}, listed)] : []),
    ...(known(bar.verdict) && bar.verdict ? [make("p", { class: "tip-verdict" }, sentence(bar.verdict))] : []),
  );
  tip.hidden = false;
  row.setAttribute("aria-describedby", "tip");
  const box = row.getBoundingClientRect();
  const room = document.documentElement.clientWidth;
  const size = tip.getBoundingClientRect();
  const wanted = (pointer ?? box.left + box.width * 0.4) + 14;
  const below = box.bottom + 6 + size.height <= innerHeight || box.top - 6 - size.height < 0;
  tip.style.left = `${Math.max(8, Math.min(wanted, room - size.width - 8)) + scrollX}px`;
  tip.style.top = `${(below ? box.bottom + 6 : box.top - 6 - size.height) + scrollY}px`;
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}

function legend(section, bars) {
  const marks = [];
  const swatch = (name, ...classes) => make("span", { class: "key" },
    ...classes.map((kind) => make("i", { class: `swatch ${kind}` })), name);
  marks.push(swatch(section.kind === "path" ? "adopted" : "mean accuracy", "shade-0",
    ...(new Set(bars.map((bar) => bar.section)).size > 1 ? ["shade-1"] : [])));
  if (bars.some((bar) => !bar.adopted)) marks.push(swatch("tried, not adopted", "not-adopted"));
  if (bars.some((bar) => known(bar.top1_std))) marks.push(swatch("standard deviation", "spread"));
  if (bars.some((bar) => known(bar.paper_top1))) marks.push(swatch("the paper’s value", "diamond"));
  const notes = [];
  if (limits(bars)[0] > 0) notes.push("The axis does not start at 0.");
  if (bars.some((bar) => known(bar.delta))) notes.push(`Δ: change from ${section.kind === "path" ? "the adopted step before" : "the design it changes"}`
    + `${bars.some(isTold) ? ", bold where it is outside seed noise (p < 0.05 after Holm’s correction)" : ""}.`);
  if (bars.some((bar) => known(bar.paper_delta)) && section.scaled) {
    notes.push(`Paper Δ: the same change in the paper’s ${section.paper} regime on ImageNet, for orientation.`);
  }
  notes.push("FLOPs: multiply-accumulates (MACs) of one image. Choose a bar for its learning curves.");
  return [make("p", { class: "legend" }, marks), make("p", { class: "fine" }, notes.join(" "))];
}

function sectionElement(section, index) {
  const id = `chart-${index}`;
  section.hatch = `hatch-${index}`;
  const box = make("div", { class: "chart" });
  const panel = make("div", { class: "curves", id: `curves-${index}`, hidden: true });
  let shown = null;
  let all = section.bars.length <= FIRST_BARS;
  const bars = () => (all ? section.bars : section.bars.slice(0, FIRST_BARS));

  function close() {
    shown = null;
    panel.hidden = true;
    panel.replaceChildren();
    render();
  }
  function open(bar) {
    hideTip();
    if (shown === bar) { close(); return; }
    shown = bar;
    const parent = section.bars[bar.before];
    const lines = [{ name: bar.label, runs: bar.runs }];
    if (parent) lines.push({ name: `${parent.label} (before)`, runs: parent.runs });
    curvePanel(panel, `Learning curves: ${bar.label}`, lines, () => {
      const at = section.bars.indexOf(bar);
      close();
      box.querySelectorAll(".row")[at]?.focus();
    });
    panel.hidden = false;
    render();
    panel.scrollIntoView({ block: "nearest" });
  }
  function render() {
    const focused = [...box.querySelectorAll(".row")].indexOf(document.activeElement);
    const width = Math.floor(box.clientWidth);
    if (width > 0) box.replaceChildren(barChart(section, bars(), width, open, (bar) => bar === shown));
    if (focused >= 0) box.querySelectorAll(".row")[focused]?.focus({ focusVisible: false });
  }
  let last = 0;
  new ResizeObserver(() => {
    if (box.clientWidth !== last) { last = box.clientWidth; hideTip(); render(); }
  }).observe(box);

  const more = all ? null : make("button", { type: "button", class: "more",
    onclick: () => { all = true; more.remove(); render(); } }, `Show all ${section.bars.length} designs`);
  const heading = DATA.sections.length > 1 ? `${section.regime} on ${section.data}: ${section.title}` : section.title;
  return make("section", { class: "roadmap", "aria-labelledby": id },
    make("h2", { id }, DATA.sections.length > 1 || section.kind !== "path" ? heading : "The roadmap"),
    section.conditions ? make("p", { class: "conditions" }, section.conditions) : null,
    make("p", { class: "subtitle" }, sentence(section.subtitle)),
    section.notes.map((note) => make("p", { class: "note" }, note)),
    box, more, legend(section, section.bars), panel, speedPanel(section), verdicts(section), reproduction(section));
}

function verdicts(section) {
  const steps = section.bars.filter((bar) => bar.verdict).map((bar) => make("li", {},
    make("b", {}, bar.label), `: ${bar.verdict}`));
  if (!steps.length && !section.verdicts.length) return null;
  return make("div", { class: "verdicts" }, make("h3", {}, "What can be said"),
    section.verdicts.map((text) => make("p", {}, sentence(text))),
    steps.length ? make("details", { open: !section.verdicts.length }, make("summary", {}, "Step by step"), make("ul", {}, steps)) : null);
}

function reproduction(section) {
  if (!section.command) return null;
  return make("div", { class: "reproduce" }, make("h3", {}, "Run it again"),
    copyable(section.command, section.title),
    section.exact ? null : make("p", { class: "note" }, "Composed here, this line does not make exactly these runs: "
      + "a setting, a version or the place of the data differs. The commands of the single runs say what each was started with."),
    make("p", { class: "fine" }, "Trains every step of this chart with its seeds. The command of a single run is shown when it is chosen in the table."));
}
