// Reviewing: what a person says of each picture, by button or by key. It is kept in this browser, and leaves it only as
// the file review.csv that the person asks for.

const KEPT_AS = `report-review-${run.id}`;
const LABELS = { harmful: 1, harmless: 0, unsure: null };
// Key of a row to { label, category, time }. One picture that stands in the run twice has one review.
let marks = new Map();
let isKept = true;

const keyOf = (row) => row.path || row.id;
const markOf = (row) => marks.get(keyOf(row));
const reviewedGold = (row) => LABELS[markOf(row)?.label] ?? null;

// Another window may have this page open: what is kept is read before each change of it.
function readKept() {
  try {
    const kept = JSON.parse(localStorage.getItem(KEPT_AS) ?? "{}");
    marks = new Map(Object.entries(kept).filter(([, mark]) => Object.hasOwn(LABELS, mark?.label)));
  } catch {
    isKept = false;
  }
}

function keep() {
  try {
    if (marks.size) localStorage.setItem(KEPT_AS, JSON.stringify(Object.fromEntries(marks)));
    else localStorage.removeItem(KEPT_AS);
    isKept = true;
  } catch {
    isKept = false;
  }
}

// Give a row's review another value of `field`; the value that it has is taken back, the label with all else.
function review(row, field, value) {
  if (isKept) readKept();
  const before = markOf(row) ?? { label: field === "category" ? "harmful" : "", category: "" };
  const after = { ...before, [field]: before[field] === value ? "" : value, time: `${new Date().toISOString().slice(0, 19)}Z` };
  if (after.label) marks.set(keyOf(row), after);
  else marks.delete(keyOf(row));
  keep();
  showReview();
}

// The page as it stands now: no card goes and none moves while one is at work on them.
function showReview() {
  for (const holder of [...list.children, dialog]) {
    if (!holder.dataset.index) continue;
    showMark(holder, rowOf(holder));
    if (holder !== dialog) showVerdict(holder, rowOf(holder));
  }
  showTallies();
  showProgress();
  if (state.truth === "review") showMeasures();
  showRanking();
}

function showMark(holder, row) {
  const mark = markOf(row);
  holder.classList.toggle("marked", Boolean(mark));
  one(".marks", holder).setAttribute("aria-label", `Review of ${row.name}`);
  for (const button of all("[data-field]", holder)) {
    button.setAttribute("aria-pressed", mark?.[button.dataset.field] === button.dataset.value);
  }
}

// The button of the predicted category stands first, the others in their order.
function offerPredicted(holder, row) {
  const isPredicted = (button) => button.dataset.value === row.predicted;
  const buttons = all("[data-field=category]", holder);
  for (const button of buttons) {
    if (isPredicted(button)) button.title = "predicted by the detector";
    else button.removeAttribute("title");
  }
  buttons.sort((a, b) => isPredicted(b) - isPredicted(a) || a.dataset.place - b.dataset.place);
  one(".category", holder).replaceChildren(...buttons);
}

function showProgress() {
  const said = Object.keys(LABELS).map((label) => [label, [...marks.values()].filter((mark) => mark.label === label).length]);
  one("#reviewed").textContent = `${marks.size.toLocaleString("en")} reviewed` +
    (marks.size ? `: ${said.map(([label, count]) => `${count.toLocaleString("en")} ${label}`).join(", ")}.` : " so far.") +
    (isKept ? "" : " This browser keeps nothing: write review.csv before you leave.");
  for (const id of ["#write-review", "#forget-review"]) one(id).disabled = marks.size === 0;
}

// AUROC with its 95 % interval (DeLong et al. 1988), rows taken as independent; no interval where it would be none.
function auroc(positives, negatives) {
  const wins = (p, q) => (p > q ? 1 : p === q ? 0.5 : 0);
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = (values) => mean(values.map((value) => (value - mean(values)) ** 2)) * values.length / (values.length - 1);
  const value = mean(positives.map((p) => mean(negatives.map((q) => wins(p, q)))));
  const spread = variance(positives.map((p) => mean(negatives.map((q) => wins(p, q))))) / positives.length +
    variance(negatives.map((q) => mean(positives.map((p) => wins(p, q))))) / negatives.length;
  const reach = 1.959964 * Math.sqrt(spread);
  return { value, interval: reach > 0 ? [Math.max(0, value - reach), Math.min(1, value + reach)] : null };
}

function showRanking() {
  const told = one("#ranking"), rows = judged();
  told.hidden = state.truth !== "review" || rows.length === 0;
  if (told.hidden) return;
  const [harmful, harmless] = [1, 0].map((gold) => rows.filter((row) => goldOf(row) === gold).map((row) => row.p));
  let ranking = "one label only, so nothing can be said about telling them apart";
  if (harmful.length && harmless.length) {
    const { value, interval } = auroc(harmful, harmless);
    ranking = `AUROC ${value.toFixed(3)} (${interval ? `95 %: ${interval.map((bound) => bound.toFixed(3)).join(" to ")}` : "too few for an interval"})`;
  }
  told.textContent = `Rates over ${rows.length.toLocaleString("en")} reviewed ${run.unit}s, ${harmful.length} harmful and ` +
    `${harmless.length} harmless: ${ranking}. Those that the queue chose are harder than most.` +
    (run.labelled ? " The summary, the curves and the columns before the last three are of the labels." : "");
}

function reviewCsv() {
  const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const keys = new Set(run.rows.map(keyOf).filter((key) => marks.has(key)));
  const lines = [...keys].map((key) => [key, marks.get(key).label, marks.get(key).category, marks.get(key).time]);
  return [["path", "label", "category", "time"], ...lines].map((line) => `${line.map(cell).join(",")}\n`).join("");
}

function writeReview() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([reviewCsv()], { type: "text/csv" }));
  link.download = "review.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

function startReview() {
  one("#show input[value=queue]").checked = true;
  one("#show input[value=queue]").dispatchEvent(new Event("input", { bubbles: true }));
  if (view.rows.length) openDetails(view.rows[0]);
}

const markBy = (target, row) => {
  const { field, value } = target.closest("[data-field]").dataset;
  review(row, field, value);
};

// `holder`: the card that has the focus, or the dialog.
function markByKey(event, holder) {
  if (!holder || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const key = event.key.toLowerCase();
  if (Object.hasOwn(run.keys, key)) review(rowOf(holder), ...run.keys[key]);
  else if (key === "b" && (isBlurred(rowOf(holder)) || state.revealed.has(rowOf(holder).index))) toggleReveal(holder, rowOf(holder));
}

one("#start-review").addEventListener("click", startReview);
one("#write-review").addEventListener("click", writeReview);
one("#forget-review").addEventListener("click", () => {
  if (!confirm(`Take back what you said of ${marks.size.toLocaleString("en")} ${run.unit}s?`)) return;
  marks.clear();
  keep();
  showReview();
});
one("#truth")?.addEventListener("change", (event) => {
  state.truth = event.target.value;
  showMeasures();
  showRanking();
  showGallery();
});
window.addEventListener("storage", (event) => {
  if (event.key !== KEPT_AS) return;
  readKept();
  showReview();
});

readKept();
view.done = new Set(run.rows.filter(markOf));
showProgress();
