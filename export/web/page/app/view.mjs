const MOST_BARS = 10;
const find = (id) => document.getElementById(id);
const format = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const megabytes = (bytes) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
// Never 0 % or 100 %: a model is not that sure.
const percent = (share) => (share < 0.001 ? "<0.1%" : share > 0.999 ? ">99.9%" : format.format(share));
const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;

/**
 * Show how much of a file has arrived.
 *
 * @param {string} name file name
 * @param {number} loaded bytes so far
 * @param {number} total bytes in all
 */
export function showProgress(name, loaded, total) {
  if (!name.startsWith("encoder")) return;
  find("loading-text").textContent =
    loaded < total
      ? `Loading the model: ${megabytes(loaded)} of ${megabytes(total)} MB`
      : "Checking and starting the model";
  const bar = find("progress");
  if (loaded < total) bar.value = loaded / total;
  else bar.removeAttribute("value");
}

/** Take the progress bar away and let pictures in. */
export function showReady() {
  find("loading").hidden = true;
  for (const id of ["choose", "take", "check"]) find(id).disabled = false;
  showHeadline("Choose a picture to see what it shows.", true);
}

/**
 * Say what went wrong, or take the message away.
 *
 * @param {Error | null} error a plain sentence in its message; null for no problem
 */
export function showProblem(error) {
  const place = find("problem");
  place.hidden = error === null;
  place.textContent = error === null ? "" : explain(error);
}

/**
 * @param {Error} error what happened
 * @returns {string} its message, with the code of a refusal for whoever is asked for help
 */
export function explain(error) {
  return error.reason ? `${error.message} (${error.reason})` : error.message;
}

/**
 * Say why no bundle can be used; the page stays closed to pictures.
 *
 * @param {Error} error the refusal
 */
export function showRefusal(error) {
  find("loading").hidden = true;
  showProblem(error);
}

/**
 * @param {string} text the answer, or what to do
 * @param {boolean} [quiet] true for what is not an answer
 */
export function showHeadline(text, quiet = false) {
  find("headline").textContent = text;
  find("headline").classList.toggle("quiet", quiet);
}

/**
 * Show the chosen picture.
 *
 * @param {Blob} blob the file
 */
export function showPicture(blob) {
  const preview = find("preview");
  URL.revokeObjectURL(preview.src);
  preview.src = URL.createObjectURL(blob);
  preview.hidden = false;
  find("invite").hidden = true;
  find("frame").classList.add("filled");
}

/** Ask for a picture again, after one that could not be used. */
export function hidePicture() {
  find("preview").hidden = true;
  find("invite").hidden = false;
  find("frame").classList.remove("filled");
}

/** Take the answer of the previous picture away. */
export function clearAnswer() {
  find("bars").replaceChildren();
  find("rest").textContent = "";
  find("timing").hidden = true;
  showHeadline("Looking", true);
}

/**
 * Show a prediction: the headline, a bar for each of the likeliest labels, and the time that each stage took.
 *
 * @param {import("../lib/classifier.mjs").Prediction} prediction what the model says
 * @param {number} decoding milliseconds that decoding took
 */
export function showAnswer(prediction, decoding) {
  showHeadline(`${prediction.label}, ${percent(prediction.probability)}`);
  const bars = find("bars");
  const shown = prediction.top.slice(0, MOST_BARS);
  while (bars.children.length < shown.length) bars.append(makeBar());
  shown.forEach((entry, at) => fillBar(bars.children[at], entry));
  const rest = prediction.top.length - shown.length;
  find("rest").textContent = rest > 0 ? `and ${rest} less likely` : "";
  const { preprocess, encoder, head } = prediction.milliseconds;
  const stages = { Decode: decoding, Resize: preprocess, Encoder: encoder, Head: head };
  const total = Object.values(stages).reduce((sum, value) => sum + value, 0);
  find("total").textContent = `Answered in ${milliseconds(total)}`;
  find("times").replaceChildren(...Object.entries(stages).map(([name, value]) => fact(name, milliseconds(value))));
  find("timing").hidden = false;
}

function makeBar() {
  const item = document.createElement("li");
  const track = element("span", "track");
  track.setAttribute("aria-hidden", "true");
  track.append(element("span", "fill"));
  item.append(element("span", "name"), element("span", "share"), track);
  return item;
}

function fillBar(item, { label, probability }) {
  item.querySelector(".name").textContent = label;
  item.querySelector(".share").textContent = percent(probability);
  item.querySelector(".fill").style.setProperty("--share", String(probability));
}

/**
 * Show which round's head serves and who signed it.
 *
 * @param {import("../lib/manifest.mjs").Manifest} manifest of the head that serves
 * @param {string | null} keyId id of the key that signed it, null when the page holds no key
 */
export function showModel(manifest, keyId) {
  const seal = find("seal");
  seal.textContent = keyId === null ? "Signature not checked (no key)" : "Signature verified";
  seal.classList.toggle("verified", keyId !== null);
  seal.hidden = false;
  find("model").hidden = false;
  const facts = [
    fact("Round", String(manifest.round)),
    fact("Sequence", String(manifest.sequence)),
    fact("Encoder", `${manifest.backbone.name}, ${manifest.precision}`),
  ];
  if (keyId !== null) facts.push(fact("Key", keyId, "code"));
  find("facts").replaceChildren(...facts);
}

/**
 * Say what came of looking for a newer round.
 *
 * @param {string} text one sentence
 * @param {boolean} [bad] true for a refusal
 */
export function showNews(text, bad = false) {
  find("news").textContent = text;
  find("news").classList.toggle("bad", bad);
  find("news").classList.toggle("muted", !bad);
}

/**
 * @param {boolean} busy true while the server is asked
 */
export function showChecking(busy) {
  find("check").disabled = busy;
  if (busy) showNews("Checking");
}

/**
 * @param {string} version onnxruntime's
 * @param {number} threads that it may use
 */
export function showHost(version, threads) {
  find("host").textContent = `onnxruntime-web ${version}, ${threads} ${threads === 1 ? "thread" : "threads"}`;
}

/** @param {boolean} over true while a file is held over the page */
export function showDropTarget(over) {
  find("frame").classList.toggle("over", over);
}

function fact(name, value, tag = "span") {
  const group = document.createElement("div");
  const detail = element("dd");
  detail.append(element(tag, "", value));
  group.append(element("dt", "", name), detail);
  return group;
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className !== "") made.className = className;
  made.textContent = text;
  return made;
}
