// The slider: confusion matrix, rates, the parts' rates and the marks on the charts follow it.

const judged = () => run.rows.filter((row) => goldOf(row) !== null);
const slider = one("#slider"), exact = one("#exact");
const slices = all("table.slices[data-column] tbody tr").map((line) => {
  const column = line.closest("table").dataset.column;
  return { line, rows: run.rows.filter((row) => row[column] === line.dataset.value) };
});

function setThreshold(value) {
  if (!Number.isFinite(value)) return;
  state.threshold = Math.min(1, Math.max(0, value));
  slider.value = state.threshold;
  if (document.activeElement !== exact) exact.value = state.threshold;
  showMeasures();
  document.dispatchEvent(new Event("threshold"));
}

// Everything above the gallery that follows the threshold, or what rows are judged by.
function showMeasures() {
  const rows = judged(), counts = confusion(rows);
  slider.setAttribute("aria-valuetext", standing(rows, counts));
  one("#standing").textContent = standing(rows, counts);
  for (const part of all("[data-judged]")) part.hidden = rows.length === 0;
  for (const part of all("[data-both-labels]")) part.hidden = new Set(rows.map(goldOf)).size < 2;
  one("#flagged-share").hidden = rows.length > 0;
  if (rows.length) showRates(counts);
  else showFlaggedShare();
  moveMarkers(counts);
}

function standing(rows, { fp, fn }) {
  const at = `Threshold ${Number(state.threshold.toFixed(4))}`;
  if (!rows.length) return `${at}: ${run.rows.filter(isFlagged).length} flagged`;
  return `${at}: ${fp} false positives, ${fn} false negatives`;
}

function showFlaggedShare() {
  const flagged = run.rows.filter(isFlagged).length;
  const [low, high] = wilson([flagged, run.rows.length]);
  one("#flagged-share").textContent = `${flagged.toLocaleString("en")} of ${run.rows.length.toLocaleString("en")} are ` +
    `flagged: ${percent(flagged / run.rows.length)} (95 %: ${percent(low)} to ${percent(high)}). Without ` +
    `${run.labelled ? "a review" : "labels or a review"} nobody knows how many of them rightly.`;
}

function showRates(counts) {
  for (const [kind, count] of Object.entries(counts)) {
    const cell = one(`#matrix [data-count="${kind}"]`);
    const whole = kind === "tp" || kind === "fn" ? counts.tp + counts.fn : counts.fp + counts.tn;
    cell.textContent = count.toLocaleString("en");
    cell.parentElement.style.setProperty("--share", whole ? count / whole : 0);
  }
  const rates = ratesOf(counts);
  for (const line of all("#rates tr")) showRate(line, line.dataset.rate, rates[line.dataset.rate]);
  for (const { line, rows } of slices) {
    const part = ratesOf(confusion(rows));
    for (const cell of all("[data-rate]", line)) cell.textContent = percent(ratio(part[cell.dataset.rate]));
    for (const cell of all("[data-reach]", line)) cell.textContent = reachText(part[cell.dataset.reach]);
  }
}

const betweenText = (rate) => wilson(rate).map(percent).join(" to ");
const countedText = ([part, whole]) => `${part.toLocaleString("en")} of ${whole.toLocaleString("en")}`;
const reachText = (rate) => (rate[1] ? `${betweenText(rate)}; ${countedText(rate)}` : "");

function showRate(line, name, rate) {
  one(".value", line).textContent = percent(ratio(rate));
  // F1 is no share of rows: its interval is the bootstrap's, at the reported threshold, in the summary.
  one(".bounds", line).textContent = rate[1] && name !== "f1" ? betweenText(rate) : "";
  one(".counted", line).textContent = name === "f1" ? "" : countedText(rate);
}

// The curves are those of the labels: another judgement's rates lie somewhere else.
function moveMarkers(counts) {
  const rates = ratesOf(state.truth === "labels" ? counts : { tp: 0, fp: 0, fn: 0, tn: 0 });
  const [recall, precision, falsePositives] = ["recall", "precision", "false_positive_rate"].map((name) => ratio(rates[name]));
  placeLine(one('[data-chart="histogram"]'));
  placeDot(one('[data-chart="roc"]'), falsePositives, recall);
  placeDot(one('[data-chart="precision_recall"]'), recall, precision);
}

function mark(chart, shape, attributes) {
  const found = one(".marker", chart) ?? chart.appendChild(document.createElementNS(chart.namespaceURI, shape));
  for (const [name, value] of Object.entries({ class: "marker", ...attributes })) found.setAttribute(name, value);
}

const along = (from, to, share) => Number(from) + (to - from) * share;

function placeLine(chart) {
  const { x0, x1, y0, y1 } = chart.dataset;
  const x = along(x0, x1, state.threshold);
  mark(chart, "line", { x1: x, x2: x, y1: y0, y2: y1 });
}

function placeDot(chart, across, up) {
  if (!chart) return;
  const { x0, x1, y0, y1 } = chart.dataset;
  mark(chart, "circle", { cx: along(x0, x1, across ?? 0), cy: along(y0, y1, up ?? 0), r: up === null ? 0 : 5 });
}

// Every threshold that changes anything: each distinct probability, and one that flags nothing.
function thresholds() {
  const distinct = [...new Set(judged().map((row) => row.p))].sort((a, b) => a - b);
  return [...distinct, Math.min(1, Number((distinct.at(-1) + 0.0001).toFixed(4)))];
}

function ratesAt(threshold) {
  const counts = { tp: 0, fp: 0, fn: 0, tn: 0 };
  for (const row of judged()) counts[goldOf(row) ? (row.p >= threshold ? "tp" : "fn") : row.p >= threshold ? "fp" : "tn"] += 1;
  return ratesOf(counts);
}

function preset(button) {
  if (button.dataset.preset === "reported") return run.threshold;
  const tried = thresholds().map((threshold) => ({ threshold, rates: ratesAt(threshold) }));
  if (button.dataset.preset === "f1") {
    return tried.reduce((best, next) => (ratio(next.rates.f1) > ratio(best.rates.f1) ? next : best)).threshold;
  }
  const within = tried.find(({ rates }) => ratio(rates.false_positive_rate) <= Number(button.dataset.rate));
  return within ? within.threshold : 1;
}

slider.addEventListener("input", () => setThreshold(slider.valueAsNumber));
exact.addEventListener("input", () => setThreshold(exact.valueAsNumber));
exact.addEventListener("blur", () => { exact.value = state.threshold; });
one("#presets").addEventListener("click", (event) => {
  const button = event.target.closest("[data-preset]");
  if (button) setThreshold(preset(button));
});
