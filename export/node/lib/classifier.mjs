import { changeOf } from "./change.mjs";
import { BundleError } from "./errors.mjs";
import { selfTest } from "./self-test.mjs";
import { makeBase, makeSession, releaseWhenIdle } from "./sessions.mjs";
import { ranked } from "./tensors.mjs";

/**
 * A decoded picture.
 *
 * @typedef {object} RgbImage
 * @property {Uint8Array} data RGB, three bytes a pixel, row by row
 * @property {number} height pixels
 * @property {number} width pixels
 */

/**
 * What the model says about a picture, and which round's head said it.
 *
 * @typedef {object} Prediction
 * @property {string} label the likeliest class
 * @property {number} probability its probability, 0 to 1
 * @property {Array<{label: string, probability: number}>} top every class, likeliest first
 * @property {Float32Array} logits one for each label, in the manifest's order
 * @property {number} round federation round of the head
 * @property {number} sequence the bundle's sequence
 * @property {string | null} keyId id of the key that signed it, null when no key is held
 * @property {{preprocess: number, encoder: number, head: number}} milliseconds time of each graph
 */

/**
 * A verified bundle with its sessions, self-tested: what `prepare` gives and `swap` takes.
 *
 * @typedef {object} Prepared
 * @property {import("./manifest.mjs").Manifest} manifest of its bundle
 * @property {string | null} keyId id of the key that signed it
 * @property {import("./policy.mjs").Installed} installed what a newer bundle is verified against
 * @property {import("./self-test.mjs").SelfTest} tested how far its answers are from the golden ones
 */

/** Three graphs of a verified bundle, ready to classify; they can be replaced while it serves. */
export class EdgeClassifier {
  #ort;
  #options;
  #state = null;

  /**
   * Nothing serves before the first `swap`; `create` does both.
   *
   * @param {object} ort the onnxruntime module (onnxruntime-node, onnxruntime-web)
   * @param {object} [options] onnxruntime's session options
   */
  constructor(ort, options = {}) {
    this.#ort = ort;
    this.#options = options;
  }

  /**
   * Make the sessions of a verified bundle and let it prove itself on its golden values.
   *
   * @param {object} ort the onnxruntime module (onnxruntime-node, onnxruntime-web)
   * @param {import("./bundle.mjs").Bundle} bundle a full bundle
   * @param {object} [options] onnxruntime's session options
   * @returns {Promise<EdgeClassifier>} ready to predict
   * @throws {BundleError} `incomplete`, `graph` or `self-test`
   */
  static async create(ort, bundle, options) {
    const classifier = new EdgeClassifier(ort, options);
    await classifier.swap(await classifier.prepare(bundle));
    return classifier;
  }

  /** @returns {boolean} whether anything serves */
  get serves() {
    return this.#state !== null;
  }

  /** @returns {import("./manifest.mjs").Manifest} manifest of the head that serves now */
  get manifest() {
    return this.#state.manifest;
  }

  /** @returns {string | null} id of the key that signed it, null when no key is held */
  get keyId() {
    return this.#state.keyId;
  }

  /** @returns {import("./policy.mjs").Installed} what a newer head is verified against */
  get installed() {
    return this.#state.installed;
  }

  /** @returns {import("./self-test.mjs").SelfTest} how far the answers are from the golden ones */
  get tested() {
    return this.#state.tested;
  }

  /**
   * Classify one picture.
   *
   * @param {RgbImage} image decoded, upright, three bytes a pixel
   * @returns {Promise<Prediction>} labels and probabilities
   * @throws {RangeError} when the data is not height x width x 3 bytes
   */
  async predict(image) {
    const state = this.#state; // read once: an update in between does not touch this prediction
    state.users += 1;
    try {
      const { features, times } = await this.#encode(state.base, image);
      const start = performance.now();
      const { logits, probabilities } = await state.head.run({ image_features: features });
      const top = ranked(probabilities.data, state.manifest.labels);
      return {
        ...top[0],
        top,
        logits: logits.data,
        round: state.manifest.round,
        sequence: state.manifest.sequence,
        keyId: state.keyId,
        milliseconds: { ...times, head: performance.now() - start },
      };
    } finally {
      state.users -= 1;
      await releaseWhenIdle(state);
    }
  }

  /**
   * @param {import("./bundle.mjs").Bundle} bundle a verified one
   * @returns {boolean} whether it is for the encoder and preprocessing that serve
   */
  fits(bundle) {
    const parts = ["encoder", "preprocess", "feature_dim"];
    return this.serves && parts.every((part) => bundle.installed[part] === this.installed[part]);
  }

  /**
   * Load a bundle beside what serves and let it prove itself. The encoder is shared when it is the same.
   *
   * @param {import("./bundle.mjs").Bundle} bundle a verified one
   * @param {boolean} [apart] true to load the encoder anew
   * @returns {Promise<Prepared>} for `swap` or `discard`
   * @throws {BundleError} `incomplete`, `other-encoder`, `graph` or `self-test`
   */
  async prepare(bundle, apart = false) {
    const fits = !apart && this.fits(bundle);
    if (!fits && bundle.encoder === null) {
      if (!this.serves) throw new BundleError("incomplete", "An update has no encoder: open a full bundle first.");
      throw new BundleError("other-encoder", "The new head is for another encoder: open the full bundle instead.");
    }
    const base = fits ? this.#state.base : await makeBase(this.#ort, bundle, this.#options);
    base.holders += 1;
    const { manifest, keyId, installed } = bundle;
    const state = { manifest, keyId, installed, base, head: null, tested: null, users: 0, retired: false };
    try {
      state.head = await makeSession(this.#ort, "head", bundle.head, this.#options);
      state.tested = await this.#test(state);
    } catch (error) {
      await this.discard(state);
      throw error;
    }
    return state;
  }

  /**
   * Let what was prepared serve. Predictions under way finish on the old one.
   *
   * @param {Prepared} next from `prepare`
   * @returns {Promise<import("./change.mjs").Change>} what is different now
   */
  async swap(next) {
    const old = this.#state;
    this.#state = next;
    const change = changeOf(old, next);
    if (old !== null) await this.discard(old);
    return change;
  }

  /**
   * Free what was prepared, or served, once no prediction uses it any more.
   *
   * @param {Prepared} state from `prepare`
   * @returns {Promise<void>} at once when it is in use
   */
  async discard(state) {
    state.retired = true;
    await releaseWhenIdle(state);
  }

  /**
   * Prepare and swap; on any failure what served before stays.
   *
   * @param {import("./bundle.mjs").Bundle} bundle verified against what is installed
   * @param {() => Promise<void>} [record] makes the device remember it; called once it has proved itself, before it
   *   serves
   * @returns {Promise<import("./change.mjs").Change & {milliseconds: number}>} what is different now, and the time
   * @throws {BundleError} `other-encoder`, `graph` or `self-test`
   */
  async update(bundle, record = async () => {}) {
    const start = performance.now();
    const next = await this.prepare(bundle);
    try {
      await record();
    } catch (error) {
      await this.discard(next);
      throw error;
    }
    return { ...(await this.swap(next)), milliseconds: performance.now() - start };
  }

  async #encode(base, { data, height, width }) {
    if (data.length !== height * width * 3)
      throw new RangeError(`${data.length} bytes are not ${height} x ${width} x 3`);
    const start = performance.now();
    const { pixel_values } = await base.preprocess.run({
      image: new this.#ort.Tensor("uint8", data, [height, width, 3]),
    });
    const middle = performance.now();
    const { image_features: features } = await base.encoder.run({ pixel_values });
    return { features, times: { preprocess: middle - start, encoder: performance.now() - middle } };
  }

  #test({ manifest, base, head }) {
    const score = async (features, rows) => {
      const tensor = new this.#ort.Tensor("float32", features, [rows, manifest.feature_dim]);
      return (await head.run({ image_features: tensor })).logits.data;
    };
    return selfTest(manifest, score, async (image) => (await this.#encode(base, image)).features.data);
  }
}
