import { hasSameBase } from "./acceptance.mjs";
import { answerOf, ranked } from "./answer.mjs";
import { BundleError, ImageError } from "./errors.mjs";
import { selfTest } from "./self-test.mjs";
import { makeBase, makeSession } from "./sessions.mjs";

/**
 * A decoded picture.
 *
 * @typedef {object} RgbImage
 * @property {Uint8Array} data RGB, three bytes a pixel, row by row
 * @property {number} height pixels
 * @property {number} width pixels
 * @property {boolean} [wide] whether the file's samples had 16 bits, of which these are the high bytes
 */

/**
 * What the model says about a picture, and which round's head said it.
 *
 * @typedef {object} Prediction
 * @property {string} label the answer: the likeliest class, or `unknown` where that is less likely than the threshold
 * @property {string} guess the likeliest class in any case
 * @property {number} probability its probability, 0 to 1
 * @property {boolean} known whether the answer is that class; always, where the bundle has no threshold
 * @property {Array<{label: string, probability: number}>} top every class, likeliest first
 * @property {Float32Array} logits one for each label, in the manifest's order
 * @property {number} round federation round of the head
 * @property {number} sequence the bundle's sequence
 * @property {string | null} keyId id of the key that signed it, null when no key is held
 * @property {{preprocess: number, encoder: number, head: number}} milliseconds time of each graph
 */

/**
 * What an update or a rollback did.
 *
 * @typedef {object} Change
 * @property {number | null} oldRound round that served before, null when none did
 * @property {number | null} oldSequence its sequence
 * @property {number} round federation round that serves now
 * @property {number} sequence its sequence
 * @property {boolean} encoderReplaced false when only the head was
 * @property {string[]} labelsAdded labels that the old round did not have
 * @property {string[]} labelsRemoved labels that the new one no longer has
 * @property {string[]} keysAdded ids of the keys that are trusted newly
 * @property {string} givenUp what to call a damaged round that a rollback left; else empty
 * @property {number} milliseconds time that it took
 */

/** The three graphs of one verified bundle, self-tested and ready to classify. */
export class EdgeClassifier {
  /** @type {any} */ #ort;
  /** @type {import("./sessions.mjs").Base | null} */ #base;
  /** @type {any} */ #head = null;
  #users = 0;
  #retired = false;

  /**
   * `load` makes one.
   *
   * @param {any} ort the onnxruntime module
   * @param {import("./signed-manifest.mjs").Signed} signed what is served
   * @param {import("./sessions.mjs").Base} base preprocessing and encoder
   */
  constructor(ort, { manifest, keyId }, base) {
    this.#ort = ort;
    this.#base = base;
    base.holders += 1;
    /** @type {import("./manifest.mjs").Manifest} what is served */
    this.manifest = manifest;
    /** @type {string | null} id of the key that signed it, null when no key is held */
    this.keyId = keyId;
    /** @type {import("./self-test.mjs").SelfTest} how far its answers are from the golden ones */
    this.tested = { head: NaN, chain: null, cosine: null };
  }

  /**
   * Make the sessions of a verified bundle and let it prove itself on its golden values.
   *
   * @param {any} ort the onnxruntime module (onnxruntime-node, onnxruntime-web)
   * @param {import("./open-bundle.mjs").Bundle} bundle verified
   * @param {object} [options] onnxruntime's session options
   * @param {EdgeClassifier | null} [beside] what serves meanwhile; the encoder is shared when it is the same
   * @throws {BundleError} `incomplete`, `graph`, `labels` or `self-test`
   */
  static async load(ort, bundle, options = {}, beside = null) {
    const { manifest } = bundle;
    let base = beside?.fits(manifest) ? beside.#base : null;
    if (base === null) {
      if (bundle.base === null)
        throw new BundleError("incomplete", "This is an update, without an encoder: install a full bundle first.");
      base = await makeBase(ort, manifest, bundle.base, options);
    }
    const made = new EdgeClassifier(ort, bundle, base);
    try {
      made.#head = await makeSession(ort, "head", bundle.head, manifest, options);
      made.tested = await made.#test();
    } catch (error) {
      await made.retire();
      throw error;
    }
    return made;
  }

  /**
   * @param {import("./manifest.mjs").Manifest} manifest of another round
   * @returns {boolean} whether it is for the encoder and preprocessing that this one has
   */
  fits(manifest) {
    return this.#base !== null && hasSameBase(this.manifest, manifest);
  }

  /**
   * Classify one picture.
   *
   * @param {RgbImage} image decoded, upright, three bytes a pixel
   * @returns {Promise<Prediction>} labels and probabilities
   * @throws {RangeError} when the data is not height x width x 3 bytes
   * @throws {ImageError} when it was made of 16 bits and the bundle scales those in a way of its own
   */
  async predict(image) {
    const range = this.manifest.sample_range;
    if (image.wide && range)
      throw new ImageError(
        `The picture has 16 bits a sample. This bundle scales them from ${range[0]} (black) to ${range[1]} (white), ` +
          "which only Python's fedclip-edge does: use that, or save the picture with 8 bits scaled so.",
      );
    this.#users += 1;
    try {
      const { features, times } = await this.#encode(image);
      const start = performance.now();
      const { logits, probabilities } = await this.#head.run({ image_features: features });
      const { round, sequence, labels } = this.manifest;
      const top = ranked(probabilities.data, labels);
      const milliseconds = { ...times, head: performance.now() - start };
      const answer = answerOf(top[0], this.manifest.calibration);
      return { ...answer, top, logits: logits.data, round, sequence, keyId: this.keyId, milliseconds };
    } finally {
      this.#users -= 1;
      await this.#releaseWhenIdle();
    }
  }

  /**
   * Free the sessions as soon as no prediction uses them; none may begin any more.
   *
   * @returns {Promise<void>} once they are freed, or at once when they are in use
   */
  async retire() {
    this.#retired = true;
    await this.#releaseWhenIdle();
  }

  async #releaseWhenIdle() {
    if (!this.#retired || this.#users !== 0 || this.#base === null) return;
    const base = this.#base;
    this.#base = null;
    base.holders -= 1;
    const unused = base.holders === 0 ? [this.#head, base.preprocess, base.encoder] : [this.#head];
    await Promise.all(unused.map((session) => session?.release()));
  }

  /** @param {RgbImage} image decoded */
  async #encode({ data, height, width }) {
    if (data.length !== height * width * 3)
      throw new RangeError(`${data.length} bytes are not ${height} x ${width} x 3`);
    const { preprocess, encoder } = /** @type {import("./sessions.mjs").Base} */ (this.#base);
    const start = performance.now();
    const image = new this.#ort.Tensor("uint8", data, [height, width, 3]);
    const { pixel_values } = await preprocess.run({ image });
    const middle = performance.now();
    const { image_features: features } = await encoder.run({ pixel_values });
    return { features, times: { preprocess: middle - start, encoder: performance.now() - middle } };
  }

  #test() {
    const score = async (features, rows) => {
      const tensor = new this.#ort.Tensor("float32", features, [rows, this.manifest.feature_dim]);
      return (await this.#head.run({ image_features: tensor })).logits.data;
    };
    return selfTest(this.manifest, score, async (image) => (await this.#encode(image)).features.data);
  }
}

/**
 * @param {EdgeClassifier | null} old what served before, null when nothing did
 * @param {EdgeClassifier} next what serves now
 * @returns {Change} what is different
 */
export function changeOf(old, next) {
  const { round, sequence, labels } = next.manifest;
  const before = old?.manifest.labels ?? [];
  return {
    oldRound: old?.manifest.round ?? null,
    oldSequence: old?.manifest.sequence ?? null,
    round,
    sequence,
    encoderReplaced: !old?.fits(next.manifest),
    labelsAdded: old === null ? [] : labels.filter((label) => !before.includes(label)),
    labelsRemoved: before.filter((label) => !labels.includes(label)),
    keysAdded: [],
    givenUp: "",
    milliseconds: 0,
  };
}
