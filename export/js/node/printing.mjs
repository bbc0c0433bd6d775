import { moment } from "../lib/acceptance.mjs";

/** @typedef {import("../lib/device.mjs").Change} Change */
/** @typedef {Pick<import("../lib/edge-classifier.mjs").EdgeClassifier, "manifest" | "keyId" | "tested">} Verified */

/**
 * @param {string} text from elsewhere
 * @returns {string} on one line, with everything escaped that a terminal would obey
 */
export function printable(text) {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (unit) => `\\u{${unit.codePointAt(0)?.toString(16)}}`);
}

/** @param {object} value printed as one JSON object, in ASCII, which every terminal and every pipe can carry */
export function printJson(value) {
  const escape = (/** @type {string} */ unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  console.log(JSON.stringify(value, null, 1).replace(/[\u007f-\uffff]/g, escape));
}

/** @param {string} text for the operator, on stderr */
export function note(text) {
  console.error(`note: ${printable(text)}`);
}

/**
 * @param {string} name of the image
 * @param {number} width characters to which it is padded
 * @param {ReadonlyArray<{label: string, probability: number}>} top labels to name
 * @returns {string} one line, as Python prints it
 */
export function answerLine(name, width, top) {
  const answers = top.map(({ label, probability }) => `${printable(label)} ${probability.toFixed(3)}`);
  return [printable(name).padEnd(width), ...answers].join("  ");
}

/**
 * @param {Change} change of an update or a rollback
 * @returns {string} what it did, in one line
 */
export function changeText({ oldRound, round, encoderReplaced, labelsAdded, labelsRemoved, givenUp }) {
  if (givenUp !== "") return `${givenUp} is damaged and was given up; round ${round} goes on`;
  if (oldRound === null) return `installed round ${round}`;
  const parts = [`round ${oldRound} -> ${round}: ${encoderReplaced ? "all parts" : "head"} replaced`];
  if (labelsAdded.length > 0) parts.push(`new labels ${labelsAdded.join(", ")}`);
  if (labelsRemoved.length > 0) parts.push(`labels ${labelsRemoved.join(", ")} gone`);
  return printable(parts.join("; "));
}

/**
 * @param {Change} change of an update or a rollback
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
    keys_kept: change.keysAdded,
  };
}

/**
 * @param {string} folder where it lies
 * @param {string} kind `bundle`, `update` or `device`
 * @param {Verified} found what was verified
 * @returns {string} one aligned line for each fact
 */
export function manifestText(folder, kind, { manifest, keyId, tested: { head, chain, cosine } }) {
  const { round, product, sequence, not_before: since, expires, backbone, labels } = manifest;
  const images = chain === null ? "" : `; images within ${short(chain)}, centred cosine ${cosine?.toFixed(4)}`;
  const facts = {
    round: `${round} of ${product}, sequence ${sequence}`,
    signature: keyId === null ? "not checked: no key is held (give one with --key)" : `by key ${keyId}`,
    valid: `${since === null ? "" : `from ${moment(since)} `}${expires === null ? "without limit" : `until ${moment(expires)}`}`,
    encoder: `${backbone.name}, ${manifest.precision}, ${manifest.feature_dim} features`,
    labels: `${labels.length}: ${labels.join(", ")}`,
    files: Object.entries(sizesOf(manifest)).map(([name, size]) => `${name} ${size} bytes`).join(", "),
    "self-test": `head within ${short(head)} of the golden logits${images}`,
  };
  const lines = Object.entries(facts).map(([name, text]) => `  ${name.padEnd(9)}  ${text}`);
  return [`${folder}: ${kind} accepted`, ...lines].map(printable).join("\n");
}

/**
 * @param {string} folder where it lies
 * @param {string} kind `bundle`, `update` or `device`
 * @param {Verified} found what was verified
 * @returns {object} the same facts for a program, with Python's names
 */
export function manifestFacts(folder, kind, { manifest, keyId, tested }) {
  const { product, round, sequence, not_before, expires, labels, backbone, precision } = manifest;
  const facts = { folder, kind, product, round, sequence, not_before, expires, key_id: keyId, labels, precision };
  return { ...facts, backbone: backbone.name, bytes: sizesOf(manifest), self_test: tested };
}

/** @param {import("../lib/manifest.mjs").Manifest} manifest lists files @returns {Record<string, number>} bytes of those carried */
function sizesOf({ entries }) {
  return Object.fromEntries(entries.filter((entry) => !entry.installed).map(({ name, size }) => [name, size]));
}

/** @param {number} value a difference @returns {string} with one digit */
const short = (value) => (value === 0 || value >= 1e-4 ? value.toPrecision(1) : value.toExponential(0));
