/** The label of an answer whose probability is below the threshold. */
export const UNKNOWN = "unknown";

/**
 * @param {ArrayLike<number>} values one for each label: probabilities or logits
 * @param {readonly string[]} labels class names
 * @returns {Array<{label: string, probability: number}>} likeliest first; equal ones in the order of the labels
 */
export function ranked(values, labels) {
  const answers = labels.map((label, at) => ({ label, probability: values[at] }));
  return answers.sort((left, right) => right.probability - left.probability);
}

/**
 * @param {{label: string, probability: number}} best the likeliest class
 * @param {import("./manifest.mjs").Calibration | null} [calibration] what confidences are worth
 * @returns {{label: string, guess: string, probability: number, known: boolean}} the answer, with the best guess beside
 */
export function answerOf({ label: guess, probability }, calibration) {
  const known = !calibration || probability >= calibration.threshold;
  return { label: known ? guess : UNKNOWN, guess, probability, known };
}
