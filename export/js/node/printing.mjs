import { moment } from "../lib/acceptance.mjs";

/** @typedef {import("../lib/edge-classifier.mjs").Change} Change */
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
  const escape = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
  console.log(JSON.stringify(value, null, 1).replace(/[\u007f-\uffff]/g, escape));
}

/** @param {string} text for the operator, on stderr */
export function note(text) {
  console.error(`note: ${printable(text)}`);
}

/**
 * @param {string} name of the image
 * @param {number} width characters to which it is padded
 * @param {{label: string, known: boolean, top: ReadonlyArray<{label: string, probability: number}>}} answer to show
 * @returns {string} one line, as Python prints it
 */
export function answerLine(name, width, { label: own, known, top }) {
  const answers = top.map(({ label, probability }) => `${printable(label)} ${probability.toFixed(3)}`);
  return [printable(name).padEnd(width), ...(known ? [] : [own]), ...answers].join("  ");
}

/** @param {Change} change of an update or a rollback @returns {string} what it did, in one line */
export function changeText({ oldRound, round, encoderReplaced, labelsAdded, labelsRemoved, givenUp }) {
  if (givenUp !== "") return `${givenUp} is damaged and was given up; round ${round} goes on`;
  if (oldRound === null) return `installed round ${round}`;
  const parts = [`round ${oldRound} -> ${round}: ${encoderReplaced ? "all parts" : "head"} replaced`];
  if (labelsAdded.length > 0) parts.push(`new labels ${labelsAdded.join(", ")}`);
  if (labelsRemoved.length > 0) parts.push(`labels ${labelsRemoved.join(", ")} gone`);
  return printable(parts.join("; "));
}

/** @param {Change} change of an update or a rollback @returns {object} the same for a program, with Python's names */
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
 * @returns what it is, for a program, with Python's names
 */
export function manifestFacts(folder, kind, { manifest, keyId, tested }) {
  const { product, round, sequence, not_before, expires, labels, backbone, precision } = manifest;
  const carried = manifest.entries.filter((entry) => !entry.installed);
  const bytes = Object.fromEntries(carried.map((entry) => [entry.name, entry.size]));
  const facts = { folder, kind, product, round, sequence, not_before, expires, key_id: keyId, labels, precision };
  return { ...facts, backbone: backbone.name, bytes, self_test: tested };
}

/** @param {ReturnType<typeof manifestFacts>} facts of what was verified */
export function manifestText({ folder, kind, not_before: since, expires, key_id: keyId, ...facts }) {
  const lines = {
    signature: keyId === null ? "not checked: no key is held (give one with --key)" : `by key ${keyId}`,
    "valid from": since === null ? "always" : moment(since),
    expires: expires === null ? "never" : moment(expires),
    ...facts,
  };
  const plain = (value) =>
    typeof value === "object" ? JSON.stringify(value).replace(/[[\]{}"]/g, "").replace(/[,:]/g, "$& ") : String(value);
  const texts = Object.entries(lines).map(([name, value]) => `  ${name.padEnd(10)}  ${plain(value)}`);
  return [`${folder}: ${kind} accepted`, ...texts].map(printable).join("\n");
}
