import { BundleError } from "./errors.mjs";
import { centred, cosine, largestDifference, ranked } from "./tensors.mjs";

const HEAD_TOLERANCE = 1e-4;
const CHAIN_TOLERANCE = { fp32: 5e-3, fp16: 5e-2 };
// Of integer encoders, whose builds differ by about the quantisation error itself: 0.26 logits at most were seen.
const LOWEST_COSINE = 0.95;
const CLEAR_MARGIN = 1;

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
 * @param {(image: import("./classifier.mjs").RgbImage) => Promise<Float32Array>} encode features of an image
 * @returns {Promise<SelfTest>} how far off the answers are
 * @throws {BundleError} `self-test` when that is beyond the tolerances
 */
export async function selfTest({ golden, precision, feature_dim: width, labels }, score, encode) {
  const rows = golden.features.length / width;
  const head = largestDifference(await score(golden.features, rows), golden.logits);
  require(head <= HEAD_TOLERANCE, `the head's logits are off by ${head}, and ${HEAD_TOLERANCE} is allowed`);
  if (golden.images.length === 0) return { head, chain: null, cosine: null };
  const found = { features: [], logits: [] };
  for (const image of golden.images) {
    const features = await encode(image);
    found.features.push(features);
    found.logits.push(await score(features, 1));
  }
  const wanted = { features: rowsOf(golden.features, width), logits: rowsOf(golden.logits, labels.length) };
  const chain = Math.max(...found.logits.map((row, at) => largestDifference(row, wanted.logits[at])));
  const mean = meanCosine(found.features, wanted.features);
  const limit = CHAIN_TOLERANCE[precision];
  if (limit !== undefined) require(chain <= limit, `an image's logits are off by ${chain}, and ${limit} is allowed`);
  else {
    require(mean >= LOWEST_COSINE, `the images' features have mean centred cosine ${mean}, least is ${LOWEST_COSINE}`);
    const same = found.logits.every((row, at) => isSameLabel(row, wanted.logits[at]));
    require(same, "an image has another first label, though that was clear");
  }
  return { head, chain, cosine: mean };
}

function rowsOf(numbers, width) {
  return Array.from({ length: numbers.length / width }, (_, at) => numbers.subarray(at * width, (at + 1) * width));
}

function meanCosine(found, golden) {
  const sum = (column) => golden.reduce((total, row) => total + row[column], 0);
  const centre = Array.from(golden[0], (_, column) => (golden.length > 1 ? sum(column) / golden.length : 0));
  const cosines = found.map((row, at) => cosine(centred(row, centre), centred(golden[at], centre)));
  return cosines.reduce((total, value) => total + value, 0) / cosines.length;
}

function isSameLabel(found, golden) {
  const first = (logits) => ranked(logits, Array.from(logits.keys()));
  const [best, second] = first(golden);
  const clear = second !== undefined && best.probability - second.probability > CLEAR_MARGIN;
  return !clear || first(found)[0].label === best.label;
}

function require(passed, fault) {
  if (passed) return;
  throw new BundleError("self-test", `This device does not get the answers that were exported: ${fault}.`);
}
