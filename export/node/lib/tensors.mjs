/**
 * @param {ArrayLike<number>} left numbers
 * @param {ArrayLike<number>} right as many numbers
 * @returns {number} largest absolute difference; NaN or infinity when either side holds one
 */
export function largestDifference(left, right) {
  let largest = left.length === right.length ? 0 : Number.POSITIVE_INFINITY;
  for (let at = 0; at < left.length; at += 1) largest = Math.max(largest, Math.abs(left[at] - right[at]));
  return largest;
}

/**
 * @param {ArrayLike<number>} left a vector
 * @param {ArrayLike<number>} right a vector of the same length
 * @returns {number} cosine of the angle between them, 0 for a zero vector
 */
export function cosine(left, right) {
  let [dot, leftSquare, rightSquare] = [0, 0, 0];
  for (let at = 0; at < left.length; at += 1) {
    dot += left[at] * right[at];
    leftSquare += left[at] ** 2;
    rightSquare += right[at] ** 2;
  }
  return dot / Math.max(Math.sqrt(leftSquare * rightSquare), 1e-12);
}

/**
 * @param {Float32Array} row numbers
 * @param {readonly number[]} centre as many
 * @returns {number[]} the differences
 */
export function centred(row, centre) {
  return Array.from(row, (value, at) => value - centre[at]);
}

/**
 * @param {ArrayLike<number>} probabilities one for each label
 * @param {readonly string[]} labels class names
 * @returns {Array<{label: string, probability: number}>} likeliest first; equal ones in the order of the labels
 */
export function ranked(probabilities, labels) {
  return labels
    .map((label, at) => ({ label, probability: probabilities[at] }))
    .sort((left, right) => right.probability - left.probability);
}
