import { ranked } from "./answer.mjs";
import { BundleError } from "./errors.mjs";

const HEAD_TOLERANCE = 1e-4;
const CHAIN_TOLERANCE = /** @type {Record<string, number>} */ ({ fp32: 5e-3, fp16: 5e-2 });
// Of integer encoders, whose builds differ by about the quantisation error itself: 0.26 logits at most were seen.
const LOWEST_COSINE = 0.95;
const CLEAR_MARGIN = 1;

/** @typedef {ArrayLike<number>} Numbers */

/**
 * How far the graphs are from the golden answers.
 *
 * @typedef {object} SelfTest
 * @property {number} head largest difference of a logit, from golden features
 * @property {number | null} chain largest difference of a logit, from golden images; null when there are none
 * @property {number | null} cosine mean cosine of images' features to the golden ones, both less the mean of the latter
 *   (of a single image: as they are); null as `chain`
 */

/**
 * Run the golden inputs of a manifest through graphs. The head is tested on golden features; where there are golden
 * images, as in a full bundle, the whole chain is tested on them too: in fp32 and fp16 by its logits, with an integer
 * encoder by the mean centred cosine of its features and by the first labels that are clear.
 *
 * @param {import("./manifest.mjs").Manifest} manifest holds the golden values
 * @param {(features: Float32Array, rows: number) => Promise<Float32Array>} score logits of features
 * @param {(image: import("./edge-classifier.mjs").RgbImage) => Promise<Float32Array>} encode features of an image
 * @throws {BundleError} `self-test` when that is beyond the tolerances
 */
export async function selfTest({ golden, precision, feature_dim: width, labels }, score, encode) {
  const head = largestDifference(await score(golden.features, golden.features.length / width), golden.logits);
  require(head <= HEAD_TOLERANCE, `the head's logits are off by ${head}, and ${HEAD_TOLERANCE} is allowed`);
  if (golden.images.length === 0) return { head, chain: null, cosine: null };
  const found = { features: /** @type {Float32Array[]} */ ([]), logits: /** @type {Float32Array[]} */ ([]) };
  for (const image of golden.images) {
    found.features.push(await encode(image));
    found.logits.push(await score(/** @type {Float32Array} */ (found.features.at(-1)), 1));
  }
  const wanted = rowsOf(golden.logits, labels.length);
  const chain = Math.max(...found.logits.map((row, at) => largestDifference(row, wanted[at])));
  const mean = meanCosine(found.features, rowsOf(golden.features, width));
  const limit = CHAIN_TOLERANCE[precision];
  if (limit !== undefined) require(chain <= limit, `an image's logits are off by ${chain}, and ${limit} is allowed`);
  else {
    require(mean >= LOWEST_COSINE, `the images' features have mean centred cosine ${mean}, least is ${LOWEST_COSINE}`);
    const same = found.logits.every((row, at) => isSameLabel(row, wanted[at]));
    require(same, "an image has another first label, though that was clear");
  }
  return { head, chain, cosine: mean };
}

/** @param {Numbers} left @param {Numbers} right @returns {number} NaN or infinity when either side holds one */
function largestDifference(left, right) {
  return Array.from(left).reduce((most, value, at) => Math.max(most, Math.abs(value - right[at])), 0);
}

/** @param {Float32Array} numbers @param {number} width @returns {Float32Array[]} rows of that width */
function rowsOf(numbers, width) {
  return Array.from({ length: numbers.length / width }, (_, at) => numbers.subarray(at * width, (at + 1) * width));
}

/** @param {Float32Array[]} found features @param {Float32Array[]} golden features */
function meanCosine(found, golden) {
  const sum = (column) => golden.reduce((total, row) => total + row[column], 0);
  const centre = Array.from(golden[0], (_, column) => (golden.length > 1 ? sum(column) / golden.length : 0));
  const centred = (row) => Array.from(row, (value, at) => value - centre[at]);
  const dot = (left, right) =>
    left.reduce((total, value, at) => total + value * right[at], 0);
  const cosines = found.map((row, at) => {
    const [one, two] = [centred(row), centred(golden[at])];
    return dot(one, two) / Math.max(Math.sqrt(dot(one, one) * dot(two, two)), 1e-12);
  });
  return cosines.reduce((total, value) => total + value, 0) / cosines.length;
}

/** @param {Float32Array} found logits @param {Float32Array} golden logits @returns whether a clear label is kept */
function isSameLabel(found, golden) {
  const first = (logits) => ranked(logits, Array.from(logits.keys(), String));
  const [best, second] = first(golden);
  const clear = second !== undefined && best.probability - second.probability > CLEAR_MARGIN;
  return !clear || first(found)[0].label === best.label;
}

/** @param {boolean} passed whether the rule is kept @param {string} fault what else */
function require(passed, fault) {
  if (!passed)
    throw new BundleError("self-test", `This device does not get the answers that were exported: ${fault}.`);
}
