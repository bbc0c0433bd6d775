/**
 * What an update did.
 *
 * @typedef {object} Change
 * @property {number | null} oldRound round that served before, null when none did
 * @property {number | null} oldSequence its sequence
 * @property {number} round federation round that serves now
 * @property {number} sequence its sequence
 * @property {boolean} encoderReplaced false when only the head was
 * @property {string[]} labelsAdded labels that the old round did not have
 * @property {string[]} labelsRemoved labels that the new one no longer has
 * @property {string} givenUp what to call a damaged round that a rollback left, while the round before served already;
 *   else empty
 */

/**
 * @param {import("./classifier.mjs").Prepared | null} old what served before, null when nothing did
 * @param {import("./classifier.mjs").Prepared} next what serves now
 * @returns {Change} what is different
 */
export function changeOf(old, { manifest, base }) {
  const before = old?.manifest ?? { round: null, sequence: null, labels: [] };
  const without = (some, others) => some.filter((label) => !others.includes(label));
  return {
    oldRound: before.round,
    oldSequence: before.sequence,
    round: manifest.round,
    sequence: manifest.sequence,
    encoderReplaced: old === null ? !manifest.isUpdate : base !== old.base,
    labelsAdded: without(manifest.labels, before.labels),
    labelsRemoved: without(before.labels, manifest.labels),
    givenUp: "",
  };
}
