const megabytes = (size) => (size >= 100_000 ? `${(size / 1e6).toFixed(2)} MB` : `${(size / 1e3).toFixed(1)} kB`);
const plural = (names) => (names.length > 1 ? "s" : "");

/**
 * @param {string} text from elsewhere
 * @returns {string} on one line, with everything escaped that a terminal would obey
 */
export function printable(text) {
  const escape = (unit) => `\\u{${unit.codePointAt(0).toString(16)}}`;
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, escape);
}

/**
 * @param {string} name of the image, padded to `width` characters
 * @param {number} width characters
 * @param {ReadonlyArray<{label: string, probability: number}>} top labels to name
 * @returns {string} one line, as Python prints it
 */
export function answerLine(name, width, top) {
  const answers = top.map(({ label, probability }) => `${printable(label)} ${probability.toFixed(3)}`);
  return [printable(name).padEnd(width), ...answers].join("  ");
}

/**
 * @param {import("./change.mjs").Change} change of an update or a rollback
 * @returns {string} what it did, in one line
 */
export function changeText({ oldRound, round, encoderReplaced, labelsAdded, labelsRemoved, givenUp }) {
  if (givenUp !== "") return `${givenUp} is damaged and was given up; round ${round} goes on`;
  if (oldRound === null) return `installed round ${round}`;
  const parts = [`round ${oldRound} -> ${round}: ${encoderReplaced ? "all parts" : "head"} replaced`];
  if (labelsAdded.length > 0) parts.push(`new label${plural(labelsAdded)} ${labelsAdded.join(", ")}`);
  if (labelsRemoved.length > 0) parts.push(`label${plural(labelsRemoved)} ${labelsRemoved.join(", ")} gone`);
  return printable(parts.join("; "));
}

/**
 * @param {string} folder where it lies
 * @param {string} kind `bundle`, `update` or `device`
 * @param {Pick<import("./classifier.mjs").Prepared, "manifest" | "keyId" | "tested">} found what was verified
 * @returns {string} one aligned line for each fact
 */
export function manifestText(folder, kind, { manifest, keyId, tested }) {
  const carried = manifest.entries.filter((entry) => !entry.installed);
  const facts = {
    round: `${manifest.round} of ${manifest.product}, sequence ${manifest.sequence}`,
    signature: keyId === null ? "not checked: no key is held (give one with --key)" : `by key ${keyId}`,
    valid: validity(manifest),
    encoder: `${manifest.backbone.name}, ${manifest.precision}, ${manifest.feature_dim} features`,
    labels: `${manifest.labels.length}: ${manifest.labels.join(", ")}`,
    files: carried.map((entry) => `${entry.name} ${megabytes(entry.size)}`).join(", "),
    "self-test": testText(tested),
  };
  const lines = Object.entries(facts).map(([name, text]) => `  ${name.padEnd(9)}  ${text}`);
  return [`${folder}: ${kind} accepted`, ...lines].map(printable).join("\n");
}

/**
 * @param {string} folder where it lies
 * @param {string} kind `bundle`, `update` or `device`
 * @param {Pick<import("./classifier.mjs").Prepared, "manifest" | "keyId" | "tested">} found what was verified
 * @returns {object} the same facts for a program, with Python's names
 */
export function manifestFacts(folder, kind, { manifest, keyId, tested }) {
  const { product, round, sequence, not_before, expires, labels, backbone, precision } = manifest;
  const carried = manifest.entries.filter((entry) => !entry.installed);
  return {
    folder,
    kind,
    product,
    round,
    sequence,
    not_before,
    expires,
    key_id: keyId,
    labels,
    backbone: backbone.name,
    precision,
    bytes: Object.fromEntries(carried.map((entry) => [entry.name, entry.size])),
    self_test: tested,
  };
}

/**
 * @param {import("./change.mjs").Change} change of an update or a rollback
 * @returns {object} the same for a program, with Python's names
 */
export function changeFacts(change) {
  return {
    old_round: change.oldRound,
    old_sequence: change.oldSequence,
    round: change.round,
    sequence: change.sequence,
    encoder_replaced: change.encoderReplaced,
    labels_added: change.labelsAdded,
    labels_removed: change.labelsRemoved,
    given_up: change.givenUp,
  };
}

function testText({ head, chain, cosine }) {
  const text = `head within ${short(head)} of the golden logits`;
  return chain === null ? text : `${text}; images within ${short(chain)}, centred cosine ${cosine.toFixed(4)}`;
}

// One digit, as Python's format .1g.
function short(value) {
  if (value === 0 || value >= 1e-4) return value.toPrecision(1);
  return value.toExponential(0).replace(/-(\d)$/, "-0$1");
}

function validity({ not_before: since, expires }) {
  const until = expires === null ? "without limit" : `until ${moment(expires)}`;
  return since === null ? until : `from ${moment(since)} ${until}`;
}

function moment(seconds) {
  const year10000 = 253_402_300_800;
  if (seconds >= year10000) return `${seconds} s UTC`;
  return `${new Date(1000 * seconds).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}
