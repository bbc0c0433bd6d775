import { readFile } from "node:fs/promises";
import ort from "onnxruntime-node";
import { loadPublicKey, openBundle } from "./bundle.mjs";
import { EdgeClassifier } from "./classifier.mjs";
import { decodeFile } from "./decode.mjs";
import { Device } from "./device.mjs";
import { folderSource } from "./folder.mjs";
import { checkTime } from "./policy.mjs";
import { BundleError } from "./errors.mjs";

const QUIET = { logSeverityLevel: 3, extra: { session: { intra_op: { allow_spinning: "0" } } } };
const RUNTIME = ort.env.versions.node;

/**
 * @param {readonly string[]} paths PEM files of public keys
 * @returns {Promise<import("./keys.mjs").PublicKey[]>} the keys
 * @throws {Error} when one cannot be read or is something else, with its path
 */
export async function loadKeys(paths) {
  return Promise.all(
    paths.map(async (path) => {
      try {
        return await loadPublicKey(await readFile(path, "utf8"));
      } catch (error) {
        throw new Error(`${path}: ${error.message}`);
      }
    }),
  );
}

/** A bundle or a device folder, verified and serving on onnxruntime-node. */
export class Edge {
  #classifier;
  #device;
  #trust;

  constructor(classifier, device, trust, warnings) {
    this.#classifier = classifier;
    this.#device = device;
    this.#trust = trust;
    /** @type {readonly string[]} what the operator should know: an expired round, a damaged one that was passed over */
    this.warnings = warnings;
  }

  /**
   * Verify and start a bundle as it was delivered, or what a device folder has installed.
   *
   * @param {string} folder path of either
   * @param {object} [options] what to trust and how to run
   * @param {readonly string[]} [options.keys] PEM files of public keys; with any, a signature is required
   * @param {string} [options.product] what this device serves
   * @param {number} [options.threads] for the encoder; onnxruntime chooses without it
   * @returns {Promise<Edge>} ready to predict
   * @throws {BundleError} with the reason why it is refused
   */
  static async open(folder, { keys: paths = [], product = "fedclip", threads } = {}) {
    const { bundle, device, trust, warnings } = await openAny(folder, await loadKeys(paths), product);
    const options = threads === undefined ? QUIET : { ...QUIET, intraOpNumThreads: threads };
    return new Edge(await EdgeClassifier.create(ort, bundle, options), device, trust, warnings);
  }

  /** @returns {import("./manifest.mjs").Manifest} manifest of the head that serves */
  get manifest() {
    return this.#classifier.manifest;
  }

  /** @returns {string | null} id of the key that signed it, null when no key is held */
  get keyId() {
    return this.#classifier.keyId;
  }

  /**
   * Classify a picture.
   *
   * @param {string | import("./classifier.mjs").RgbImage} image path of a file, or raw RGB
   * @returns {Promise<import("./classifier.mjs").Prediction>} labels and probabilities
   * @throws {import("./errors.mjs").ImageError} when the file cannot be used
   */
  async predict(image) {
    return this.#classifier.predict(typeof image === "string" ? await decodeFile(image) : image);
  }

  /**
   * Verify an update, let it prove itself, record it in the device folder, then swap the head while serving.
   *
   * @param {string} folder path of an update
   * @returns {Promise<{round: number, sequence: number, milliseconds: number}>} what serves now, and the time it took
   * @throws {BundleError} why it is refused; the old head goes on serving
   */
  async update(folder) {
    if (this.#device === null)
      throw new BundleError("incomplete", "Updates need a device folder: make one with `fedclip-edge update`.");
    const { bundle: current } = await this.#device.current(this.#trust, RUNTIME);
    const installed = await this.#device.installed(current);
    const bundle = await openBundle(folderSource(folder), this.#trust, { installed, runtime: RUNTIME });
    return this.#classifier.update(bundle, () => this.#device.commit(bundle));
  }
}

async function openAny(folder, keys, product) {
  if (!(await Device.isDevice(folder))) {
    const trust = { keys, product };
    return {
      bundle: await openBundle(folderSource(folder), trust, { runtime: RUNTIME }),
      device: null,
      trust,
      warnings: [],
    };
  }
  const device = new Device(folder);
  const trust = await device.trust(keys, product);
  const { bundle, warning } = await device.current(trust, RUNTIME);
  return { bundle, device, trust, warnings: [warning, timeWarning(bundle.manifest)].filter(Boolean) };
}

function timeWarning(manifest) {
  try {
    checkTime(manifest, Date.now() / 1000);
    return null;
  } catch (error) {
    return `${error.message} It goes on serving because it was accepted before.`;
  }
}
