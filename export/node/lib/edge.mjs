import ort from "onnxruntime-node";
import { openBundle } from "./bundle.mjs";
import { EdgeClassifier } from "./classifier.mjs";
import { decodeFile } from "./decode.mjs";
import { Device } from "./device.mjs";
import { loadKeys } from "./device-keys.mjs";
import { BundleError, EdgeError } from "./errors.mjs";
import { folderSource } from "./folder.mjs";
import { expiryWarning } from "./policy.mjs";

const QUIET = { logSeverityLevel: 3, extra: { session: { intra_op: { allow_spinning: "0" } } } };
const RUNTIME = ort.env.versions.node;

/** The warning of a bundle that was opened without a key. */
export const UNCHECKED = "signature not checked (no key): hashes were checked, the origin was not";

/**
 * What to trust and how to run.
 *
 * @typedef {object} Options
 * @property {readonly string[]} [keys] PEM files of public keys; with any, a signature is required
 * @property {string} [product] what this device serves; `fedclip` unless told
 * @property {number} [threads] for the encoder; onnxruntime chooses without it
 */

/**
 * What an installation did: the change, ids of the keys that the device keeps newly, and the time that it took.
 *
 * @typedef {import("./change.mjs").Change & {keysKept: string[], milliseconds: number}} Installation
 */

/** A bundle or a device folder, verified and serving on onnxruntime-node. */
export class Edge {
  #classifier;
  #device;
  #keys;
  #product;
  #fallback = null;
  #last = Promise.resolve();

  constructor(device, keys, { product = "fedclip", threads }) {
    const limit = threads === undefined ? {} : { intraOpNumThreads: threads };
    this.#classifier = new EdgeClassifier(ort, { ...QUIET, ...limit });
    this.#device = device;
    this.#keys = keys;
    this.#product = product;
  }

  /**
   * Verify and start a bundle as it was delivered, or what a device folder has installed.
   *
   * @param {string} folder path of either
   * @param {Options} [options] keys count for a device folder only where it keeps none itself
   * @returns {Promise<Edge>} ready to predict
   * @throws {BundleError} with the reason why it is refused
   * @throws {EdgeError} when a key cannot be used
   */
  static async open(folder, options = {}) {
    const keys = await loadKeys(options.keys ?? []);
    const device = new Device(folder);
    const edge = new Edge((await device.exists()) ? device : null, keys, options);
    if (edge.#device !== null) await edge.#reload();
    else {
      const bundle = await openBundle(folderSource(folder), await edge.#trust(), { runtime: RUNTIME });
      await edge.#classifier.swap(await edge.#classifier.prepare(bundle));
    }
    return edge;
  }

  /**
   * Install a full bundle to a new device folder, or an update or full bundle to one that exists, be it damaged.
   *
   * @param {string} folder path of the device folder
   * @param {string} source path of what to install
   * @param {Options} [options] keys given at the first installation, or to a device that keeps none, are stored there
   *   and enforced from then on
   * @returns {Promise<{edge: Edge, change: Installation}>} what serves now
   * @throws {BundleError} why it is refused; the device is as it was
   * @throws {EdgeError} when a key cannot be used, or is none of those that the device keeps
   */
  static async install(folder, source, options = {}) {
    const edge = new Edge(new Device(folder), await loadKeys(options.keys ?? []), options);
    return { edge, change: await edge.update(source) };
  }

  /**
   * Verify what `install` would install and let it prove itself, but install nothing.
   *
   * @param {string} folder path of a device folder, or of the bundle that an update is for
   * @param {string} source path of an update or a full bundle
   * @param {Options} [options] as for `install`
   * @returns {Promise<import("./classifier.mjs").Prepared & {warnings: string[]}>} what was verified
   * @throws {BundleError} why it would be refused
   */
  static async check(folder, source, options = {}) {
    const device = new Device(folder);
    let edge;
    if (await device.exists()) {
      edge = new Edge(device, await loadKeys(options.keys ?? []), options);
      await edge.#tryToReload();
    } else edge = await Edge.open(folder, options);
    const { next } = await edge.#candidate(source);
    await edge.#classifier.discard(next);
    return { ...next, warnings: next.keyId === null ? [UNCHECKED] : [] };
  }

  /** @returns {import("./manifest.mjs").Manifest} manifest of the head that serves */
  get manifest() {
    return this.#classifier.manifest;
  }

  /** @returns {string | null} id of the key that signed it, null when no key is held */
  get keyId() {
    return this.#classifier.keyId;
  }

  /** @returns {import("./self-test.mjs").SelfTest} how far its answers are from the golden ones */
  get tested() {
    return this.#classifier.tested;
  }

  /** @returns {string[]} what an operator should know: a damaged round, no key, an expired round */
  get warnings() {
    const unsigned = this.keyId === null ? UNCHECKED : null;
    return [this.#fallback, unsigned, expiryWarning(this.manifest)].filter((text) => text !== null);
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
   * Serve what the device folder names now: another process may have updated it.
   *
   * @returns {Promise<import("./change.mjs").Change | null>} what is different, null when nothing is
   * @throws {BundleError} why that cannot be served; what served before goes on
   * @throws {EdgeError} when this is no device folder
   */
  async reload() {
    return this.#alone(() => this.#reload());
  }

  /**
   * Verify an update or a full bundle, let it prove itself, record it in the device folder, then swap while serving.
   *
   * @param {string} source path of an update or a full bundle
   * @returns {Promise<Installation>} what serves now
   * @throws {BundleError} why it is refused; what served before goes on
   * @throws {EdgeError} when this is no device folder
   */
  async update(source) {
    return this.#alone(async () => {
      if (await this.#requireDevice().exists()) await this.#tryToReload();
      const start = performance.now();
      const { bundle, next, trust } = await this.#candidate(source);
      const keysKept = await this.#device.install(bundle, trust);
      this.#fallback = null;
      const change = await this.#classifier.swap(next);
      if (typeof bundle.encoder?.model === "string") await this.#leaveDelivery();
      return { ...change, keysKept, milliseconds: performance.now() - start };
    });
  }

  /**
   * Go back to the round before, which is still stored; the one that is left is never accepted again.
   *
   * @returns {Promise<import("./change.mjs").Change>} what serves now
   * @throws {BundleError} when there is none, or it is damaged; what served before goes on
   * @throws {EdgeError} when this is no device folder
   */
  async rollback() {
    return this.#alone(async () => {
      const seen = await this.#requireDevice().state();
      await this.#reload();
      const bundle = await this.#device.previous(await this.#trust(), RUNTIME);
      const givenUp = this.#fallback === null ? "" : await this.#device.currentName();
      const next = await this.#classifier.prepare(bundle);
      await this.#device.rollback(seen);
      this.#fallback = null;
      return { ...(await this.#classifier.swap(next)), givenUp };
    });
  }

  async #reload() {
    const device = this.#requireDevice();
    const { current } = await device.state();
    const serves = this.#classifier.serves ? this.manifest.sequence : null;
    if (current === String(serves)) return null;
    const prepare = (bundle) => this.#classifier.prepare(bundle);
    const { used, fallback } = await device.serve(await this.#trust(), RUNTIME, prepare);
    this.#fallback = fallback;
    const change = await this.#classifier.swap(used);
    return change.sequence === change.oldSequence ? null : change;
  }

  // A device that cannot be opened may be mended by what is to be installed, which has to pass every check itself.
  async #tryToReload() {
    try {
      await this.#reload();
    } catch (error) {
      if (!(error instanceof BundleError)) throw error;
      this.#fallback = error.message;
    }
  }

  async #candidate(source) {
    const trust = await this.#trust();
    const doubtful = this.#fallback !== null;
    const installed = await (this.#device?.installed(doubtful) ?? this.#classifier.installed);
    const bundle = await openBundle(folderSource(source), trust, { installed, runtime: RUNTIME });
    const whole = bundle.manifest.isUpdate && !this.#classifier.fits(bundle);
    const next = await this.#classifier.prepare(whole ? await this.#device.complete(bundle) : bundle);
    return { bundle, next, trust };
  }

  // onnxruntime reads a model with separate data from its path, and a delivery may be overwritten or deleted. When the
  // device's own copy cannot be opened, the delivery goes on: it has passed its tests and is recorded.
  async #leaveDelivery() {
    try {
      const prepare = (bundle) => this.#classifier.prepare(bundle, true);
      const { used, fallback } = await this.#device.serve(await this.#trust(), RUNTIME, prepare);
      await (fallback === null ? this.#classifier.swap(used) : this.#classifier.discard(used));
    } catch (error) {
      if (!(error instanceof BundleError)) throw error;
    }
  }

  #trust() {
    return this.#device?.trust(this.#keys, this.#product) ?? { keys: this.#keys, product: this.#product };
  }

  #requireDevice() {
    if (this.#device !== null) return this.#device;
    throw new EdgeError("A bundle as delivered stays as it is: install it to a device folder, and open that.");
  }

  // One update, rollback or reload at a time; predictions do not wait.
  #alone(action) {
    const mine = this.#last.then(action);
    this.#last = mine.catch(() => {});
    return mine;
  }
}
