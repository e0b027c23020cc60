// The gallery: filters, order, pages of cards. Cards are made once and kept, so that no picture is decoded twice.

const CARDS_A_PAGE = 48, CLOSE = 0.1;
const controls = one("#controls"), list = one("#cards");
const cards = new Map();
// `done`: what was reviewed when the queue was chosen; what is reviewed after that keeps its place there.
const view = { rows: [], page: 0, done: new Set() };

run.rows.forEach((row, index) => {
  row.index = index;
  row.failed = row.error !== null;
});
run.queue.forEach((index, turn) => { run.rows[index].turn = turn; });

const shows = {
  all: () => true,
  uncertain: (row) => Math.abs(row.p - state.threshold) <= CLOSE,
  failures: (row) => row.failed,
  unseen: (row) => row.uf > 0 || row.ut > 0,
  disagree: (row) => row.pt !== null && row.pi !== null && (row.pt >= state.threshold) !== (row.pi >= state.threshold),
  unlabelled: (row) => goldOf(row) === null,
  queue: (row) => !markOf(row),
  reviewed: (row) => Boolean(markOf(row)),
  flagged: isFlagged,
  passed: (row) => !isFlagged(row),
};
for (const kind of ["tp", "fp", "fn", "tn"]) shows[kind] = (row) => kindOf(row) === kind;

// Filters that no row can meet for want of labels.
const needs = {
  fp: (golds) => golds.has(0), tn: (golds) => golds.has(0), fn: (golds) => golds.has(1), tp: (golds) => golds.has(1),
  unlabelled: (golds) => golds.has(null) && golds.size > 1,
  flagged: (golds) => golds.has(null) && golds.size === 1, passed: (golds) => golds.has(null) && golds.size === 1,
};

const error = (row) => (goldOf(row) === null ? -1 : Math.abs(goldOf(row) - row.p));
const gap = (row) => (row.pt === null || row.pi === null ? -1 : Math.abs(row.pt - row.pi));
const sorts = {
  order: (row) => row.index,
  high: (row) => -row.p,
  low: (row) => row.p,
  wrong: (row) => -error(row),
  uncertain: (row) => Math.abs(row.p - state.threshold),
  disagree: (row) => -gap(row),
  queue: (row) => row.turn,
  random: (row) => Math.imul(row.index + 1, 0x9e3779b1) >>> 0, // the same order on every visit
};

const plain = (text) => text.normalize("NFKC").toLowerCase();
const searched = (row) => (row.searched ??= plain([row.name, row.path, row.text, row.caption, row.error ?? ""].join("\n")));

function choose() {
  const { show, sort, search, language, category, predicted } = Object.fromEntries(new FormData(controls));
  const words = plain(search).split(/\s+/).filter(Boolean);
  const isShown = show === "queue" ? (row) => !view.done.has(row) : shows[show];
  view.rows = run.rows.filter((row) => isShown(row) && (!language || row.language === language) &&
    (!category || row.category === category) && (!predicted || row.predicted === predicted) && words.every((word) => searched(row).includes(word)));
  const key = sorts[sort];
  view.rows.sort((a, b) => key(a) - key(b) || a.index - b.index);
  view.page = Math.min(view.page, Math.max(0, Math.ceil(view.rows.length / CARDS_A_PAGE) - 1));
}

function showTallies() {
  const golds = new Set(run.rows.map(goldOf));
  for (const output of all("[data-tally]")) {
    const { tally } = output.dataset, label = output.closest("label");
    output.textContent = run.rows.filter(shows[tally]).length.toLocaleString("en");
    label.hidden = !(needs[tally]?.(golds) ?? true);
    if (label.hidden && one("input", label).checked) one("#show input").checked = true;
  }
}

function showGallery() {
  showTallies();
  choose();
  const first = view.page * CARDS_A_PAGE, shown = view.rows.slice(first, first + CARDS_A_PAGE);
  list.replaceChildren(...shown.map(cardOf));
  const count = view.rows.length.toLocaleString("en");
  one("#status").textContent = view.rows.length === 0 ? `None of the ${run.unit}s is like that.`
    : `${count} of ${run.rows.length.toLocaleString("en")} ${run.unit}s`;
  for (const pager of all("[data-pager]")) {
    one("span", pager).textContent = shown.length ? `${first + 1}–${first + shown.length} of ${count}` : "";
    one('[data-step="-1"]', pager).disabled = view.page === 0;
    one('[data-step="1"]', pager).disabled = first + CARDS_A_PAGE >= view.rows.length;
  }
}

function cardOf(row) {
  if (!cards.has(row.index)) cards.set(row.index, newCard(row));
  const card = cards.get(row.index);
  showVerdict(card, row);
  showMark(card, row);
  showPicture(card, row, controls.elements.boxes?.checked);
  return card;
}

function newCard(row) {
  const card = one("#card").content.cloneNode(true).firstElementChild;
  card.dataset.index = row.index;
  one("h3 bdi", card).textContent = row.name;
  one("h3", card).title = row.path || row.name;
  one(".read", card).textContent = row.text;
  one(".caption", card).textContent = row.caption && `Caption: ${row.caption}`;
  one(".views", card).textContent = viewsText(row);
  one(".error", card).textContent = row.failed ? `Failed: ${row.error}` : "";
  const unseen = unseenText(row);
  one(".tags", card).textContent = [run.languages[row.language] ?? row.language, row.category, unseen && `not seen: ${unseen}`]
    .filter(Boolean).join(" · ");
  one(".filled", card).setAttribute("width", 100 * row.p);
  one(".open", card).setAttribute("aria-label", `Details of ${row.name}`);
  offerPredicted(card, row);
  const frame = one(".frame", card);
  if (frame) fillFrame(frame, row);
  return card;
}

function unseenText(row) {
  const shares = [["frames", row.uf], ["text", row.ut]].filter(([, share]) => share > 0);
  return shares.map(([part, share]) => `${percent(share)} of its ${part}`).join(", ");
}

const shareText = (row, name) => `${name} ${percent(row.categories[name])}`;

function viewsText(row) {
  const views = [["text alone", row.pt], ["picture and text", row.pi]].filter(([, p]) => p !== null);
  return views.map(([name, p]) => `${name} ${p.toFixed(4)}`).join(" · ");
}

function showVerdict(card, row) {
  const kind = kindOf(row), flagged = isFlagged(row);
  card.classList.toggle("wrong", kind === "fp" || kind === "fn");
  one(".score", card).textContent = row.p.toFixed(4);
  one(".badge", card).textContent = flagged ? "flagged" : "passed";
  one(".badge", card).className = `badge ${flagged ? "flagged" : "passed"}`;
  const predicted = one(".predicted bdi", card);
  if (predicted) predicted.textContent = flagged && row.predicted !== null ? shareText(row, row.predicted) : "";
  one(".truth", card).textContent = truthText(row, kind);
  one(".line", card).setAttribute("x", 100 * state.threshold - 0.4);
}

function truthText(row, kind) {
  if (kind === null) return state.truth === "review" ? "" : "no label";
  const label = `${state.truth === "review" ? "reviewed" : "labelled"} ${goldOf(row) ? "harmful" : "harmless"}`;
  return { fp: `${label}: false positive`, fn: `${label}: false negative` }[kind] ?? label;
}

// Blurred: whatever a person or the detector calls harmful, and what nobody could judge.
function isBlurred(row) {
  const harmful = row.gold === 1 || reviewedGold(row) === 1 || row.printed === 1 || isFlagged(row) || row.failed;
  return harmful && controls.elements.blur.checked && !state.revealed.has(row.index);
}

function fillFrame(frame, row) {
  const image = one("img", frame), picture = frame.parentElement;
  const webp = thumbnails[row.index];
  picture.classList.toggle("absent", !webp);
  if (!webp) {
    frame.replaceChildren(`No picture to show${row.missing ? `: ${row.missing}` : ""}`);
    one(".reveal", picture).hidden = true;
    return;
  }
  image.src = `data:image/webp;base64,${webp}`;
  frame.append(outlines(row));
}

function outlines(row) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1000 1000");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const line of row.lines) {
    const outline = svg.appendChild(document.createElementNS(svg.namespaceURI, "g"));
    for (const name of ["halo", "box"]) {
      const polygon = outline.appendChild(document.createElementNS(svg.namespaceURI, "polygon"));
      polygon.setAttribute("points", line.box.join(" "));
      polygon.setAttribute("class", name);
    }
  }
  return svg;
}

function showPicture(holder, row, outlined) {
  const picture = one(".picture", holder), image = picture && one("img", picture);
  if (!image) return;
  const blurred = isBlurred(row);
  picture.classList.toggle("blurred", blurred);
  one("svg", picture).toggleAttribute("hidden", !outlined);
  image.alt = blurred ? "blurred picture" : row.caption || row.name;
  const button = one(".reveal", picture);
  button.hidden = !blurred && !state.revealed.has(row.index);
  button.textContent = blurred ? "Show the picture" : "Blur again";
  button.setAttribute("aria-label", `${button.textContent}: ${row.name}`);
}

// `holder`: the card or the dialog in which it was asked for.
function toggleReveal(holder, row) {
  if (!state.revealed.delete(row.index)) state.revealed.add(row.index);
  showPicture(holder, row, holder === dialog || controls.elements.boxes?.checked);
}

function rowOf(element) {
  return run.rows[Number(element.closest("[data-index]").dataset.index)];
}

controls.addEventListener("submit", (event) => event.preventDefault());
controls.addEventListener("input", (event) => {
  if (event.target.name === "show" && event.target.value in sorts) controls.elements.sort.value = event.target.value;
  if (event.target.name === "show") view.done = new Set(run.rows.filter(markOf));
  view.page = 0;
  showGallery();
});

list.addEventListener("click", (event) => {
  if (event.target.closest(".open")) openDetails(rowOf(event.target));
  if (event.target.closest("[data-field]")) markBy(event.target, rowOf(event.target));
  if (event.target.closest(".reveal")) toggleReveal(event.target.closest(".card"), rowOf(event.target));
});
list.addEventListener("keydown", (event) => markByKey(event, event.target.closest(".card")));

for (const pager of all("[data-pager]")) {
  pager.append(one("#pager").content.cloneNode(true));
  pager.addEventListener("click", (event) => {
    if (!event.target.dataset.step) return;
    view.page += Number(event.target.dataset.step);
    showGallery();
    one("#gallery .listed").scrollIntoView({ block: "start" });
  });
}

one("#matrix")?.addEventListener("click", (event) => {
  const cell = event.target.closest("[data-show]");
  if (!cell) return;
  one(`#show input[value="${cell.dataset.show}"]`).checked = true;
  view.page = 0;
  showGallery();
  one("#gallery").scrollIntoView();
  one("#show input:checked").focus({ preventScroll: true });
});

// The slider moves faster than cards need to follow.
let waiting = null;
document.addEventListener("threshold", () => {
  clearTimeout(waiting);
  waiting = setTimeout(showGallery, 120);
});
