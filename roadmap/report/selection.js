// The chosen runs, two at most: what they are, how to run them again, and what differs between them.

// What differs between two runs, as `roadmap diff` has it: pairs of a heading and its rows of key and two values.
function differences(first, second) {
  const { definitions, definition, columns } = DATA.runs;
  const [left, right] = [first, second].map((run) => ({ ...definitions[definition[run]], seed: field("seed", run) }));
  const config = [...new Set([...Object.keys(left), ...Object.keys(right)])].map((key) => [key, left[key], right[key]]);
  const logged = Object.entries(DATA.fields).map(([heading, names]) => [heading,
    Object.keys(columns).filter((name) => names.includes(name.split(".")[0]))
      .map((name) => [name, field(name, first), field(name, second)])]);
  return [["Config", config], ...logged]
    .map(([heading, rows]) => [heading, rows.filter(([, a, b]) => JSON.stringify(a ?? null) !== JSON.stringify(b ?? null))])
    .filter(([, rows]) => rows.length);
}

function diffValue(value, heading) {
  if (!known(value)) return make("span", { class: "missing" }, "none");
  if (typeof value !== "number") return String(value);
  return minus(String(heading === "Result" ? Number(value.toPrecision(6)) : value));
}

function selection() {
  const chosen = [];
  let marks = () => {};
  const panel = make("div", { class: "selection", id: "chosen", tabindex: "-1" });
  function select(run) {
    const at = chosen.indexOf(run);
    if (at >= 0) chosen.splice(at, 1);
    else chosen.push(run);
    if (chosen.length > 2) chosen.shift();
    render();
    say(chosen.length === 2 ? "Two runs chosen; what differs between them is below the table" : `${chosen.length} run chosen`);
  }
  function render() {
    if (!chosen.length) {
      panel.replaceChildren(make("p", { class: "hint" }, "Choose a run for its command and its curves; choose two to see what differs between them."));
      return;
    }
    const lines = make("div", { class: "curves", id: "chosen-curves" });
    panel.replaceChildren(
      make("div", { class: "panel-head" }, make("h3", {}, chosen.length === 2 ? "What differs" : "The chosen run"),
        make("button", { type: "button", class: "close", onclick: () => { chosen.length = 0; render(); marks(); } }, "Clear")),
      ...(chosen.length === 2 ? [diffTable(...chosen)] : []),
      make("div", { class: "cards" }, chosen.map(card)), lines);
    curvePanel(lines, "Learning curves", chosen.map((run) => ({ name: runName(run), runs: [run] })), null);
  }
  render();
  return { panel, select, chosen: () => chosen, whenCleared: (update) => { marks = update; } };
}

function card(run) {
  const command = DATA.runs.commands[run];
  const error = field("error", run);
  return make("article", { class: "card" }, make("h4", { class: "clamp" }, runName(run)),
    make("p", { class: "fine" }, `${field("folder", run) ?? ""}; run ${field("run_id", run)}`),
    error ? make("p", { class: "error" }, String(error)) : null,
    command ? copyable(command, runName(run))
      : make("p", { class: "note" }, "Its folder does not say how it was started."));
}

function diffTable(first, second) {
  const found = differences(first, second);
  if (!found.length) return make("p", { class: "note" }, "These two runs differ in nothing that was logged.");
  return make("div", { class: "diff-box", tabindex: "0", role: "region", "aria-label": "What differs" }, make("table", { class: "diff" },
    make("thead", {}, make("tr", {}, make("td"), [first, second].map((run) => make("th", { scope: "col" }, make("div", { class: "clamp" }, runName(run)))))),
    found.map(([heading, rows]) => make("tbody", {},
      make("tr", { class: "group" }, make("th", { scope: "rowgroup", colspan: 3 }, heading)),
      rows.map(([key, a, b]) => make("tr", { "data-key": key }, make("th", { scope: "row" }, key),
        make("td", {}, diffValue(a, heading)), make("td", {}, diffValue(b, heading))))))));
}
