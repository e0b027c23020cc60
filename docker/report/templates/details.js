// The dialog: all that is known of one picture, its lines outlined; arrow keys go through the pictures of the gallery.

const dialog = one("#details");

function openDetails(row) {
  dialog.dataset.index = row.index;
  one("h3 bdi", dialog).textContent = row.name;
  const frame = one(".frame", dialog);
  if (frame) {
    frame.replaceChildren(document.createElement("img"));
    one(".reveal", dialog).hidden = false;
    fillFrame(frame, row);
    showPicture(dialog, row, true);
  }
  one("dl", dialog).replaceChildren(...facts(row).flatMap(([name, value]) => [made("dt", name), made("dd", value)]));
  one("tbody", dialog).replaceChildren(...row.lines.map((line, number) => lineRow(line, number)));
  one("table", dialog).hidden = row.lines.length === 0;
  offerPredicted(dialog, row);
  showMark(dialog, row);
  if (!dialog.open) dialog.showModal();
}

function facts(row) {
  const spent = Object.entries(row.milliseconds).map(([stage, ms]) => `${stage} ${ms} ms`).join(", ");
  return [
    ["probability", row.p.toFixed(4)],
    ["verdict", `${isFlagged(row) ? "flagged" : "passed"} at ${state.threshold}` +
      (row.printed === null ? "" : `; printed label ${row.printed}`)],
    ["label", truthText(row, kindOf(row))],
    ["views", viewsText(row)], ["failed", row.error ?? ""], ["text", row.text], ["caption", row.caption],
    ["language", run.languages[row.language] ?? row.language ?? ""], ["category", row.category ?? ""],
    ["attacked, if harmful", categoriesText(row)], ["not seen", unseenText(row)],
    ["time", spent], ["path", row.path],
  ].filter(([, value]) => value);
}

function categoriesText(row) {
  const names = Object.keys(row.categories).sort((a, b) => row.categories[b] - row.categories[a]);
  return names.map((name) => shareText(row, name)).join(", ");
}

function made(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (tag !== "dt") element.dir = "auto";
  return element;
}

function lineRow(line, number) {
  const row = document.createElement("tr");
  row.tabIndex = 0;
  row.append(made("td", line.text), made("td", line.engine), made("td", line.confidence.toFixed(2)));
  row.lastElementChild.className = "n";
  const light = (on) => () => all(".frame g", dialog)[number]?.classList.toggle("lit", on);
  for (const [event, on] of [["mouseenter", true], ["focus", true], ["mouseleave", false], ["blur", false]]) {
    row.addEventListener(event, light(on));
  }
  return row;
}

function step(by) {
  const place = view.rows.findIndex((row) => row.index === Number(dialog.dataset.index));
  const next = view.rows[place + by];
  if (next) openDetails(next);
}

dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
  if (event.target.dataset.step) step(Number(event.target.dataset.step));
  if (event.target.closest("[data-field]")) markBy(event.target, rowOf(event.target));
  if (event.target.closest(".reveal")) toggleReveal(dialog, rowOf(event.target));
});
dialog.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) step(by);
  else markByKey(event, dialog);
});
// A picture that was shown or blurred in the dialog is so in the gallery.
dialog.addEventListener("close", () => {
  showGallery();
  one(`[data-index="${dialog.dataset.index}"] .open`, list)?.focus();
});

setThreshold(run.threshold);
showRanking();
showGallery();
