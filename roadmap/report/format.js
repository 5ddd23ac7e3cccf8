// The data, how numbers are written, and how elements are made: text from runs enters the page as text nodes only.

const DATA = JSON.parse(document.getElementById("payload").textContent);
const SVG = "http://www.w3.org/2000/svg";
const NONE = "–";

let curveData = null;
function curves() {
  curveData ??= JSON.parse(document.getElementById("curves").textContent);
  return curveData;
}

// A field of a run; columns with one value in all runs hold it once.
function field(name, run) {
  const column = DATA.runs.columns[name];
  if (column === undefined) return null;
  const value = Array.isArray(column) ? column[run] : column.same;
  return value ?? null;
}

function filled(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined) parent.append(child);
  }
  return parent;
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  return filled(element, children);
}

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (known(value)) element.setAttribute(name, value);
  }
  return filled(element, children);
}

function known(value) {
  return value !== null && value !== undefined;
}

function number(value, digits = 2) {
  return known(value) ? minus(value.toFixed(digits)) : NONE;
}

function signed(value, digits = 2) {
  if (!known(value)) return NONE;
  return (value >= 0 ? "+" : "") + minus(value.toFixed(digits));
}

// What the analysis says in lower case, for a page: a capital, a full stop, real minus signs.
function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1).replace(/([ (])-(?=[\d.])/g, "$1−")}${/[.!?]$/.test(text) ? "" : "."}`;
}

function minus(text) {
  return text.replace("-", "−");
}

function significant(value) {
  if (!known(value)) return NONE;
  if (Number.isInteger(value)) return minus(String(value));
  return minus(String(Number(value.toPrecision(4))));
}

function pValue(value) {
  if (!known(value)) return NONE;
  return value < 0.001 ? "< 0.001" : value.toFixed(3);
}

function meanStd(bar) {
  if (!known(bar.top1)) return bar.unfinished || "not run";
  return known(bar.top1_std) ? `${number(bar.top1)} ± ${number(bar.top1_std)}` : number(bar.top1);
}

function interval(low, high, write = number) {
  return known(low) && known(high) ? `${write(low)} to ${write(high)}` : null;
}

function duration(seconds) {
  if (!known(seconds)) return NONE;
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${(seconds / size).toFixed(1)} ${unit}`;
  }
  return `${seconds.toFixed(1)} s`;
}

function moment(text) {
  return known(text) ? String(text).slice(0, 16).replace("T", " ") : NONE;
}

function macs(gmacs, factor) {
  return known(gmacs) ? `${number(gmacs * factor)} ${factor === 1 ? "G" : "M"}` : NONE;
}

function runName(run) {
  const seed = field("seed", run);
  return `${field("variant", run) ?? field("step", run) ?? field("run_id", run)}${known(seed) ? `, seed ${seed}` : ""}`;
}

// A fixed number of readable ticks within [low, high].
function ticks(low, high, most) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const rough = span / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + 1e-9; index += 1) {
    found.push(Number((index * step).toPrecision(12)));
  }
  return found;
}

const ruler = document.createElement("canvas").getContext("2d");
function textWidth(text, font) {
  ruler.font = font;
  return ruler.measureText(text).width;
}

// As much of a text as fits, with an ellipsis where it does not.
function fitted(text, width, font) {
  if (textWidth(text, font) <= width) return text;
  let [low, high] = [0, Math.min(text.length, 400)];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (textWidth(`${text.slice(0, middle)}…`, font) <= width) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}

function say(text) {
  document.getElementById("said").textContent = text;
}

function copyable(command, name) {
  const code = make("code", {}, command);
  const button = make("button", {
    type: "button", class: "copy", "aria-label": `Copy the command: ${name}`,
    onclick: async () => {
      try {
        await navigator.clipboard.writeText(command);
      } catch {
        getSelection().selectAllChildren(code);
        if (!document.execCommand("copy")) return;
      }
      button.textContent = "Copied";
      say("Copied");
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    },
  }, "Copy");
  return make("div", { class: "command" }, make("pre", { tabindex: "0" }, code), button);
}
