// Sorts tables by the column whose heading is clicked, and shows the rows that hold every word that is searched for.
const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
for (const table of document.querySelectorAll("table.findings")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    headings.forEach(other => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const compare = new Intl.Collator(undefined, { numeric: true }).compare;
    table.tBodies[0].append(...[...table.tBodies[0].rows].sort((one, other) => sign * compare(value(one, column), value(other, column))));
  }));
}
const search = document.querySelector("input[type=search]");
search?.addEventListener("input", () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = [...document.querySelectorAll("table.findings tbody tr")];
  for (const row of rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
  document.querySelector("output").value = `${rows.filter(row => !row.hidden).length} of ${rows.length} shown`;
});
