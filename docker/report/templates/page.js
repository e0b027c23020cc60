"use strict";
// Shared by the files that follow: the rows, the threshold, and how a row counts at it. Text is only ever set as
// textContent: nothing that was read from a picture can become markup.

const one = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const run = read("run");
const thumbnails = read("thumbnails");
// `truth` says what rows are judged by: the labels of the run, or what was said of them on this page (review.js).
const state = { threshold: run.threshold, revealed: new Set(), truth: run.labelled ? "labels" : "review" };

const isFlagged = (row) => row.p >= state.threshold;
const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)} %`);

const goldOf = (row) => (state.truth === "review" ? reviewedGold(row) : row.gold);

function kindOf(row) {
  const gold = goldOf(row);
  if (gold === null) return null;
  return gold ? (isFlagged(row) ? "tp" : "fn") : isFlagged(row) ? "fp" : "tn";
}

function confusion(rows) {
  const counts = { tp: 0, fp: 0, fn: 0, tn: 0 };
  for (const kind of rows.map(kindOf)) if (kind) counts[kind] += 1;
  return counts;
}

// [rows that count, rows looked at] of each rate.
function ratesOf({ tp, fp, fn, tn }) {
  return {
    recall: [tp, tp + fn], precision: [tp, tp + fp], false_positive_rate: [fp, fp + tn],
    accuracy: [tp + tn, tp + fp + fn + tn], f1: [2 * tp, 2 * tp + fp + fn], flagged: [tp + fp, tp + fp + fn + tn],
  };
}

const ratio = ([part, whole]) => (whole ? part / whole : null);

// 95 % interval of a share (Wilson 1927).
function wilson([part, whole]) {
  const z = 1.959964, share = part / whole, more = (z * z) / whole;
  const width = z * Math.sqrt((share * (1 - share)) / whole + more / (4 * whole));
  return [(share + more / 2 - width) / (1 + more), (share + more / 2 + width) / (1 + more)];
}

// The choice outlives the page where the browser lets a file keep anything.
function useTheme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("report-theme", name);
  } catch { /* kept for this visit only */ }
}

function keptTheme() {
  try {
    return localStorage.getItem("report-theme");
  } catch {
    return null;
  }
}

one("#theme").addEventListener("change", (event) => useTheme(event.target.value));
const kept = one(`#theme input[value="${CSS.escape(keptTheme() ?? "auto")}"]`);
if (kept) {
  kept.checked = true;
  useTheme(kept.value);
}
