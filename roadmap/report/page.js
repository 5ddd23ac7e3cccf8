// Puts the page together.

function header() {
  const top = document.getElementById("top");
  filled(top, [
    make("h1", {}, DATA.title),
    make("p", { class: "lead" }, DATA.lead),
    make("dl", { class: "numbers" }, DATA.numbers.map(({ name, value }) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    DATA.caveats.length ? make("div", { class: "caveats" }, make("h2", {}, "Read this first"),
      make("ul", {}, DATA.caveats.map((text) => make("li", {}, text)))) : null,
  ]);
}

function footer() {
  const newest = DATA.newest ? `; newest result ${moment(DATA.newest)} UTC` : "";
  document.getElementById("foot").append(make("p", {}, `Made by roadmap ${DATA.version}${newest}. `
    + "Published values: “A ConvNet for the 2020s”, arXiv:2201.03545, Tables 10 and 11."));
}

function main() {
  header();
  filled(document.getElementById("sections"), DATA.sections.map(sectionElement));
  const choice = selection();
  const table = runTable(choice.select, choice.chosen);
  choice.whenCleared(table.marks);
  filled(document.getElementById("runs"), [make("h2", { id: "runs-title" }, "All runs"), table.elements, choice.panel]);
  footer();
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
}

main();
