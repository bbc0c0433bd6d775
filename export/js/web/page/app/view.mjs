const MOST_BARS = 10;
const format = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const megabytes = (bytes) => (bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0);
const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
// Never 0 % or 100 %: a model is not that sure.
const percent = (share) =>
  share < 0.001 ? "<0.1%" : share > 0.999 ? ">99.9%" : format.format(share);

/** @param {string} id of an element @returns {any} that element */
export const find = (id) => document.getElementById(id);

/**
 * Show how much of a file has arrived.
 *
 * @param {string} name file name
 * @param {number} loaded bytes so far
 * @param {number} total bytes in all
 */
export function showProgress(name, loaded, total) {
  if (!name.startsWith("encoder")) return;
  const busy = loaded < total;
  find("loading-text").textContent = busy
    ? `Loading the model: ${megabytes(loaded)} of ${megabytes(total)} MB`
    : "Checking and starting the model";
  if (busy) find("progress").value = loaded / total;
  else find("progress").removeAttribute("value");
}

/** Take the progress bar away and let pictures in. */
export function showReady() {
  find("loading").hidden = true;
  for (const id of ["choose", "take", "check"]) find(id).disabled = false;
  showHeadline("Choose a picture to see what it shows.", true);
}

/** @param {unknown} error what went wrong, a plain sentence in its message; null takes the message away */
export function showProblem(error) {
  find("problem").hidden = error === null;
  find("problem").textContent = error === null ? "" : explain(error);
}

/**
 * @param {any} error what happened
 * @returns {string} its message, with the code of a refusal for whoever is asked for help
 */
export const explain = ({ message, reason }) => (reason ? `${message} (${reason})` : message);

/** @param {string} text the answer, or what to do @param {boolean} [quiet] true for what is not an answer */
export function showHeadline(text, quiet = false) {
  find("headline").textContent = text;
  find("headline").classList.toggle("quiet", quiet);
}

/** @param {Blob | null} blob the chosen file; null asks for another one */
export function showPicture(blob) {
  const preview = find("preview");
  URL.revokeObjectURL(preview.src);
  if (blob !== null) preview.src = URL.createObjectURL(blob);
  preview.hidden = blob === null;
  find("invite").hidden = blob !== null;
  find("frame").classList.toggle("filled", blob !== null);
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
 * @param {import("../lib/edge-classifier.mjs").Prediction} prediction what the model says
 * @param {number} decoding milliseconds that decoding took
 */
export function showAnswer({ guess, probability, known, top, milliseconds: { preprocess, encoder, head } }, decoding) {
  const best = `${guess}, ${percent(probability)}`;
  showHeadline(known ? best : `Unknown. Best guess: ${best}`);
  const bars = find("bars");
  const shown = top.slice(0, MOST_BARS);
  while (bars.children.length < shown.length) bars.append(find("bar").content.firstElementChild.cloneNode(true));
  for (const [at, entry] of shown.entries()) {
    const [name, share, track] = bars.children[at].children;
    name.textContent = entry.label;
    share.textContent = percent(entry.probability);
    track.firstElementChild.style.setProperty("--share", String(entry.probability));
  }
  find("rest").textContent = top.length > shown.length ? `and ${top.length - shown.length} less likely` : "";
  find("total").textContent = `Answered in ${milliseconds(decoding + preprocess + encoder + head)}`;
  const stages = Object.entries({ Decode: decoding, Resize: preprocess, Encoder: encoder, Head: head });
  showFacts("times", Object.fromEntries(stages.map(([name, value]) => [name, milliseconds(value)])));
  find("timing").hidden = false;
}

/** @param {import("../lib/edge-classifier.mjs").EdgeClassifier} serving which round serves, and who signed it */
export function showModel({ manifest: { round, sequence, backbone, precision }, keyId }) {
  find("seal").textContent = keyId === null ? "Signature not checked (no key)" : "Signature verified";
  find("seal").classList.toggle("verified", keyId !== null);
  find("model").hidden = false;
  const facts = { Round: String(round), Sequence: String(sequence), Encoder: `${backbone.name}, ${precision}` };
  showFacts("facts", keyId === null ? facts : { ...facts, Key: keyId });
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
}

/** @param {boolean} busy true while the server is asked */
export function showChecking(busy) {
  find("check").disabled = busy;
  if (busy) showNews("Checking");
}

/** @param {string} id of a list @param {Record<string, string>} facts to show in it */
function showFacts(id, facts) {
  const groups = Object.entries(facts).map(([name, value]) => {
    const group = document.createElement("div");
    for (const [tag, text] of [["dt", name], ["dd", value]])
      group.append(Object.assign(document.createElement(tag), { textContent: text }));
    return group;
  });
  find(id).replaceChildren(...groups);
}
