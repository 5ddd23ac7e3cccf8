// Draws the charts, makes the table of all runs, and shows the chosen runs. Text of runs enters the page as text only.
const data = JSON.parse(document.getElementById("data").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const MOST = 8; // chosen runs that are shown

function make(tag, attributes, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}

async function draw(box, spec) {
  const { view } = await vegaEmbed(box, spec, {
    ast: true, actions: false, logLevel: 1, renderer: "svg", config: data.themes[dark.matches ? "dark" : "light"],
    tooltip: { theme: dark.matches ? "dark" : "light" },
  });
  view.addEventListener("click", (event, item) => {
    const step = item?.datum?.step;
    if (step) box.closest("section").querySelector(`.choose[data-step="${CSS.escape(step)}"]`)?.click();
  });
}

function drawCharts() {
  for (const figure of document.querySelectorAll("figure")) {
    draw(figure.querySelector(".chart"), JSON.parse(figure.querySelector("script").textContent));
  }
}

function copyButton(command) {
  const button = make("button", { type: "button", className: "copy", textContent: "Copy" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(command);
    }
  });
  return button;
}

const { titles, rows } = data.table;
const table = new DataTable("#all-runs", {
  data: rows.map((cells) => ["", ...cells]),
  columns: [
    { orderable: false, searchable: false, className: "dt-select", render: DataTable.render.select() },
    ...titles.map(() => ({ render: DataTable.render.text(), columnControl: { target: 1, content: ["search"] } })),
  ],
  layout: {
    topStart: { buttons: [{ extend: "colvis", text: "Columns", columns: ":gt(0)" }] },
    topEnd: { search: { placeholder: "design, error, device …" } },
    bottomStart: "info", bottomEnd: "paging",
  },
  order: [], pageLength: 25, autoWidth: false, select: { style: "multi", headerCheckbox: false },
});

const cell = (run, key) => rows[run][data.table.keys.indexOf(key)];
const runName = (run) => `${cell(run, "variant")}, seed ${cell(run, "seed")}`;

function curvePoints(chosen) {
  const groups = new Set(chosen.map((run) => cell(run, "variant")));
  return chosen.filter((run) => data.curves[run]).flatMap((run) => {
    const { epoch, ...metrics } = data.curves[run];
    const names = { run: runName(run), group: groups.size > 1 ? cell(run, "variant") : runName(run) };
    return epoch.map((number, point) => ({
      ...names, epoch: number, ...Object.fromEntries(Object.entries(metrics).map(([name, values]) => [name, values[point]])),
    }));
  });
}

function curvesChart(chosen) {
  const points = curvePoints(chosen);
  if (!points.length) return make("p", { className: "note", textContent: "These runs have no learning curves yet." });
  const spec = structuredClone(data.chart);
  spec.datasets = { curves: points };
  spec.params.find((param) => param.name === "first").bind.max = Math.max(...points.map(({ epoch }) => epoch));
  const box = make("div", { className: "chart" });
  requestAnimationFrame(() => draw(box, spec));
  return box;
}

function differences(chosen) {
  const table = make("table", { className: "cells" });
  table.append(make("tr", {}, make("td"), ...chosen.map((run) => make("th", { scope: "col", textContent: runName(run) }))));
  for (const [kind, fields] of Object.entries(data.fields)) {
    const differing = Object.entries(fields).filter(([, values]) => new Set(chosen.map((run) => values[run])).size > 1);
    if (differing.length) table.append(make("tr", {}, make("th", { textContent: kind, colSpan: chosen.length + 1 })));
    for (const [key, values] of differing) {
      table.append(make("tr", {}, make("th", { scope: "row", className: "key", textContent: key }),
        ...chosen.map((run) => make("td", { textContent: values[run] ?? "none" }))));
    }
  }
  return table.rows.length > 1 ? make("div", { className: "scroll" }, table)
    : make("p", { className: "note", textContent: "These runs differ in nothing that was logged." });
}

function card(run) {
  const command = data.commands[run];
  const line = make("pre", { className: "command", textContent: command ?? "" });
  return make("article", {}, make("h4", { textContent: runName(run) }),
    make("p", { className: "error", textContent: cell(run, "error") ?? "" }),
    command ? make("div", { className: "line" }, line, copyButton(line))
      : make("p", { className: "note", textContent: "The run's folder does not say how it was started." }));
}

function showChosen() {
  const all = table.rows({ selected: true }).indexes().toArray();
  const chosen = all.slice(0, MOST);
  document.getElementById("chosen").replaceChildren(...(chosen.length ? [
    make("h3", { textContent: `${all.length} chosen` + (all.length > MOST ? `, the first ${MOST} shown` : "") }),
    curvesChart(chosen),
    ...(chosen.length > 1 ? [make("h3", { textContent: "Differences" }), differences(chosen)] : []),
    make("h3", { textContent: "Commands" }), ...chosen.map(card),
  ] : []));
}

table.on("select deselect", showChosen);
for (const button of document.querySelectorAll(".choose")) {
  button.addEventListener("click", () => {
    table.rows({ selected: true }).deselect();
    table.rows(button.dataset.runs.split(" ").map(Number)).select();
    document.getElementById("chosen").scrollIntoView();
  });
}
for (const command of document.querySelectorAll("pre.command")) command.after(copyButton(command));
function recolour() {
  document.documentElement.classList.toggle("dark", dark.matches);
  drawCharts();
  showChosen();
}
dark.addEventListener("change", recolour);
recolour();
