// The table of all runs: sorted and filtered over arrays of numbers, a page of rows in the document at a time.

const PAGE_ROWS = 60;
const COLUMNS = [
  { key: "status", name: "status", always: true },
  { key: "regime", name: "regime" },
  { key: "data", name: "data" },
  { key: "variant", name: "design", always: true, wide: true },
  { key: "recipe", name: "recipe" },
  { key: "seed", name: "seed", numeric: true, always: true, write: (value) => (known(value) ? String(value) : NONE) },
  { key: "epochs", name: "epochs", numeric: true, write: (value) => (known(value) ? String(value) : NONE) },
  { key: "top1", name: "top-1 (%)", numeric: true, always: true, write: (value) => number(value) },
  { key: "top5", name: "top-5 (%)", numeric: true, write: (value) => number(value) },
  { key: "gmacs", name: "GMACs", numeric: true, write: significant },
  { key: "params_m", name: "params (M)", numeric: true, write: (value) => number(value) },
  { key: "images_per_second", name: "images/s", numeric: true, write: (value) => (known(value) ? value.toFixed(0) : NONE) },
  { key: "peak_memory_gb", name: "memory (GiB)", numeric: true, write: (value) => number(value) },
  { key: "train_seconds", name: "training", numeric: true, write: duration },
  { key: "device", name: "device" },
  { key: "ended", name: "ended (UTC)", write: moment },
  { key: "name", name: "name", wide: true },
  { key: "notes", name: "notes", wide: true },
  { key: "error", name: "error", wide: true },
];
const STATUSES = ["finished", "running", "failed", "interrupted"];

function shownColumns() {
  return COLUMNS.filter(({ key, always }) => {
    const column = DATA.runs.columns[key];
    if (always) return true;
    return Array.isArray(column) && column.some((value) => known(value) && value !== "");
  });
}

function written(column, run) {
  const value = field(column.key, run);
  return column.write ? column.write(value) : known(value) ? String(value) : "";
}

// Numbers by size and texts as people order them; what is missing comes last in either direction.
function sorter(column, descending) {
  const sign = descending ? -1 : 1;
  const values = Array.from({ length: DATA.runs.count }, (_, run) => field(column.key, run));
  const sizes = column.numeric ? values : ranks(values);
  return (a, b) => {
    const [first, second] = [sizes[a], sizes[b]];
    if (first === null || second === null) return (first === null) - (second === null) || a - b;
    return sign * (first - second) || a - b;
  };
}

// The place of each text among all: comparing two texts as people do takes long, so each is compared once.
function ranks(values) {
  const different = [...new Set(values.filter(known).map(String))].sort(new Intl.Collator("en", { numeric: true }).compare);
  const place = new Map(different.map((text, index) => [text, index]));
  return values.map((value) => (known(value) ? place.get(String(value)) : null));
}

function runTable(select, selected) {
  const columns = shownColumns();
  const everything = Array.from({ length: DATA.runs.count }, (_, run) => run);
  const texts = new Map(columns.map((column) => [column.key, null]));
  const columnTexts = (column) => {
    if (!texts.get(column.key)) texts.set(column.key, everything.map((run) => written(column, run).toLowerCase()));
    return texts.get(column.key);
  };
  let haystacks = null;
  const state = { words: "", exact: {}, columns: {}, sort: null, descending: false, page: 0 };
  let order = everything;
  let rows = everything;

  function filter() {
    haystacks ??= everything.map((run) => [...columns.map((column) => columnTexts(column)[run]),
      field("run_id", run), field("folder", run), field("step", run), field("git_commit", run)].join("\n").toLowerCase());
    const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
    const exact = Object.entries(state.exact).filter(([, value]) => value !== "");
    const own = columns.filter((column) => state.columns[column.key])
      .map((column) => [columnTexts(column), state.columns[column.key].toLowerCase()]);
    rows = order.filter((run) => words.every((word) => haystacks[run].includes(word))
      && exact.every(([key, value]) => String(field(key, run)) === value)
      && own.every(([column, text]) => column[run].includes(text)));
    state.page = 0;
    render();
  }
  function sort(column) {
    state.descending = state.sort === column ? !state.descending : Boolean(column.numeric && column.key !== "seed");
    state.sort = column;
    const compare = sorter(column, state.descending);
    order = [...everything].sort(compare);
    rows = [...rows].sort(compare);
    state.page = 0;
    render();
  }

  const body = make("tbody");
  const count = make("p", { class: "count", role: "status" });
  const pager = make("nav", { class: "pager", "aria-label": "Pages of runs" });
  const heads = columns.map((column) => make("th", { scope: "col", class: column.numeric ? "numeric" : null },
    make("button", { type: "button", onclick: () => sort(column) },
      column.numeric ? [make("i", { "aria-hidden": "true" }), column.name] : [column.name, make("i", { "aria-hidden": "true" })])));
  const filters = make("tr", { class: "filters", hidden: true }, make("td"), columns.map((column) => make("td", {},
    make("input", { type: "search", "aria-label": `Filter ${column.name}`, placeholder: "contains",
      oninput: (event) => { state.columns[column.key] = event.target.value; filter(); } }))));

  function render() {
    heads.forEach((head, index) => {
      if (columns[index] === state.sort) head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const pages = Math.max(Math.ceil(rows.length / PAGE_ROWS), 1);
    const start = state.page * PAGE_ROWS;
    const page = rows.slice(start, start + PAGE_ROWS);
    body.replaceChildren(...page.map(row));
    count.textContent = rows.length === DATA.runs.count ? `${rows.length.toLocaleString("en")} runs`
      : `${rows.length.toLocaleString("en")} of ${DATA.runs.count.toLocaleString("en")} runs`;
    pager.hidden = pages < 2;
    const step = (by, name) => make("button", { type: "button", disabled: state.page + by < 0 || state.page + by >= pages,
      onclick: () => { state.page += by; render(); box.scrollTop = 0; } }, name);
    pager.replaceChildren(step(-1, "Previous"), make("span", {}, `${start + 1} to ${start + page.length}`), step(1, "Next"));
  }
  function row(run) {
    const name = runName(run);
    const chosen = selected().includes(run);
    const check = make("input", { type: "checkbox", "aria-label": `Choose ${name}`, checked: chosen,
      onchange: () => { select(run); marks(); } });
    return make("tr", { "data-run": run, class: chosen ? "chosen" : null,
      onclick: (event) => { if (!event.target.closest("input") && !String(getSelection())) { select(run); marks(); } } },
    make("td", { class: "pick" }, check), columns.map((column) => cell(column, run)));
  }
  function cell(column, run) {
    const text = written(column, run);
    if (column.key === "status") return make("td", {}, make("span", { class: `status ${STATUSES.includes(text) ? text : ""}` }, text));
    if (column.wide) return make("td", { class: "wide" }, make("div", { class: "clamp" }, text));
    return make("td", { class: column.numeric ? "numeric" : null }, text);
  }
  function marks() {
    for (const line of body.children) {
      const chosen = selected().includes(Number(line.dataset.run));
      line.classList.toggle("chosen", chosen);
      line.querySelector("input").checked = chosen;
    }
  }
  const box = make("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": "Table of runs" },
    make("table", {}, make("caption", { class: "unseen" }, "All runs; the buttons of the head sort"),
      make("thead", {}, make("tr", {}, make("th", { scope: "col", class: "pick" }, make("span", { class: "unseen" }, "chosen")), heads), filters), body));
  render();
  const toolbar = tools(state, filter, filters);
  return { elements: [toolbar, make("div", { class: "table-foot" }, count, pager), box], marks };
}

function tools(state, filter, filters) {
  const search = make("input", { type: "search", id: "search", placeholder: "design, error, commit …",
    oninput: (event) => { state.words = event.target.value; filter(); } });
  const choosers = ["status", "regime", "data"].map((key) => {
    const column = DATA.runs.columns[key];
    const values = Array.isArray(column) ? [...new Set(column.filter(known).map(String))].sort() : [];
    if (values.length < 2) return null;
    return make("label", {}, make("span", {}, key), make("select", { "data-filter": key,
      onchange: (event) => { state.exact[key] = event.target.value; filter(); } },
    make("option", { value: "" }, "all"), values.map((value) => make("option", { value }, value))));
  });
  const own = make("button", { type: "button", "aria-expanded": "false", class: "own", onclick: () => {
    filters.hidden = !filters.hidden;
    own.setAttribute("aria-expanded", String(!filters.hidden));
  } }, "Filter by column");
  return make("div", { class: "tools", role: "search" }, make("label", { class: "search" }, make("span", {}, "find"), search), choosers, own);
}
