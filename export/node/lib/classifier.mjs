import { BundleError } from "./errors.mjs";
import { cosine, largestDifference, ranked } from "./tensors.mjs";

const HEAD_TOLERANCE = 1e-4;
const CHAIN_TOLERANCE = { fp32: 5e-3, fp16: 5e-2 };
const LOWEST_COSINE = 0.98;

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

/** Three graphs of a verified bundle, ready to classify; the head can be replaced while it serves. */
export class EdgeClassifier {
  #ort;
  #options;
  #base;
  #state;

  constructor(ort, options, base, state) {
    this.#ort = ort;
    this.#options = options;
    this.#base = base;
    this.#state = state;
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
  static async create(ort, bundle, options = {}) {
    if (bundle.encoder === null)
      throw new BundleError("incomplete", "An update has no encoder: open a full bundle first.");
    const { model, data } = bundle.encoder;
    const external = data === null ? {} : { externalData: [{ path: data.name, data: data.bytes }] };
    const base = {
      preprocess: await makeSession(ort, "preprocess", bundle.preprocess, options),
      encoder: await makeSession(ort, "encoder", model, { ...options, ...external }),
    };
    const classifier = new EdgeClassifier(ort, options, base, await makeState(ort, bundle, options));
    await classifier.#proveChain(bundle.manifest);
    return classifier;
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
      const { features, times } = await this.#features(image);
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
   * Replace the head. Predictions under way finish on the old one; on any failure the old one stays.
   *
   * @param {import("./bundle.mjs").Bundle} update a bundle verified against what is installed
   * @param {() => Promise<void>} [record] makes the device remember it; called once the new head has proved itself,
   *   before it serves
   * @returns {Promise<{round: number, sequence: number, milliseconds: number}>} what serves now, and how long the new
   *   head took to load and prove itself
   * @throws {BundleError} `other-encoder`, `graph` or `self-test`
   */
  async update(update, record = async () => {}) {
    const start = performance.now();
    const old = this.#state;
    if (["encoder", "preprocess", "feature_dim"].some((part) => update.installed[part] !== old.installed[part])) {
      throw new BundleError(
        "other-encoder",
        "The new head was made for another encoder: open the full bundle instead.",
      );
    }
    const state = await makeState(this.#ort, update, this.#options);
    await record();
    this.#state = state;
    old.retired = true;
    await releaseWhenIdle(old);
    const { round, sequence } = state.manifest;
    return { round, sequence, milliseconds: performance.now() - start };
  }

  async #features(image) {
    const { data, height, width } = image;
    if (data.length !== height * width * 3)
      throw new RangeError(`${data.length} bytes are not ${height} x ${width} x 3`);
    const start = performance.now();
    const { pixel_values } = await this.#base.preprocess.run({
      image: new this.#ort.Tensor("uint8", data, [height, width, 3]),
    });
    const middle = performance.now();
    const { image_features: features } = await this.#base.encoder.run({ pixel_values });
    return { features, times: { preprocess: middle - start, encoder: performance.now() - middle } };
  }

  async #proveChain({ golden, precision, feature_dim: width, labels }) {
    for (const [at, image] of golden.images.entries()) {
      const { features } = await this.#features(image);
      const { logits } = await this.#state.head.run({ image_features: features });
      const expected = golden.logits.subarray(at * labels.length, (at + 1) * labels.length);
      const limit = CHAIN_TOLERANCE[precision];
      const proof =
        limit === undefined
          ? cosine(features.data, golden.features.subarray(at * width, (at + 1) * width)) >= LOWEST_COSINE
          : largestDifference(logits.data, expected) <= limit;
      if (!proof)
        throw new BundleError(
          "self-test",
          `On golden image ${at + 1} this device does not get the answer that was exported.`,
        );
    }
  }
}

async function makeState(ort, bundle, options) {
  const { manifest, keyId, installed } = bundle;
  const head = await makeSession(ort, "head", bundle.head, options);
  await proveHead(ort, head, manifest);
  return { manifest, keyId, installed, head, users: 0, retired: false };
}

async function releaseWhenIdle(state) {
  if (!state.retired || state.users !== 0 || state.head === null) return;
  const { head } = state;
  state.head = null;
  await head.release();
}

const PORTS = {
  preprocess: [["image"], ["pixel_values"]],
  encoder: [["pixel_values"], ["image_features"]],
  head: [["image_features"], ["logits", "probabilities"]],
};

async function makeSession(ort, role, model, options) {
  const session = await ort.InferenceSession.create(model, options).catch((error) => {
    throw new BundleError("graph", `onnxruntime cannot load the ${role}: ${error.message}`);
  });
  const found = [session.inputNames, session.outputNames].map((names) => [...names].sort());
  if (JSON.stringify(found) !== JSON.stringify(PORTS[role])) {
    throw new BundleError(
      "graph",
      `The ${role} has inputs and outputs ${found.join(" -> ")}, not ${PORTS[role].join(" -> ")}.`,
    );
  }
  return session;
}

async function proveHead(ort, head, { golden, feature_dim: width }) {
  const features = new ort.Tensor("float32", golden.features, [golden.features.length / width, width]);
  const { logits } = await head.run({ image_features: features });
  const difference = largestDifference(logits.data, golden.logits);
  if (!(difference <= HEAD_TOLERANCE)) {
    throw new BundleError(
      "self-test",
      `The head's answers differ by ${difference} from the golden ones (at most ${HEAD_TOLERANCE} is allowed).`,
    );
  }
}
