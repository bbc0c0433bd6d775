import { mkdir, readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isLeftBehind } from "./bundle.mjs";
import { deciding, storedKeys, storeKeys } from "./device-keys.mjs";
import {
  BASES,
  called,
  explained,
  FULL_BUNDLE,
  hasBase,
  isGood,
  newestManifest,
  openBase,
  openRound,
  OTHER_KEY,
  prune,
  ROUNDS,
  wayBack,
  writeBase,
  writeRound,
} from "./device-rounds.mjs";
import { isThere, readState, STATE, writeState, writing } from "./device-state.mjs";
import { replaceFile, syncFolder } from "./durable.mjs";
import { asideOf, BundleError } from "./errors.mjs";
import { entryOf } from "./manifest.mjs";
import { checkParts, checkProduct, checkSequence, encoderDigest } from "./policy.mjs";

const INSTALLING = "installing";
const OWN = [ROUNDS, BASES, "keys", "lock", INSTALLING];

/**
 * A device folder, the same as in Python: the encoder once, a head for each round, and the highest sequence ever
 * accepted. Node cannot take Python's lock, so only one program may write to a folder at a time.
 */
export class Device {
  #unusable = []; // the current round, when the last `serve` had to do without it

  /** @param {string} folder path; need not exist before `install` */
  constructor(folder) {
    /** @type {string} path */
    this.folder = folder;
  }

  /**
   * @returns {Promise<boolean>} whether something was installed here, be it damaged or not; a first installation that
   *   was interrupted does not count, and may be repeated
   */
  async exists() {
    const has = (name) => isThere(join(this.folder, name));
    return (await has(STATE)) || ((await has(ROUNDS)) && !(await has(INSTALLING)));
  }

  /**
   * @returns {Promise<import("./device-state.mjs").State>} what the device remembers
   * @throws {BundleError} `device-state`
   */
  async state() {
    return readState(this.folder);
  }

  /**
   * What bundles have to prove here.
   *
   * @param {readonly import("./keys.mjs").PublicKey[]} keys given; they count only where the device keeps none
   * @param {string} product what the caller serves
   * @returns {Promise<Required<import("./bundle.mjs").Trust>>} the keys that decide, and the product
   * @throws {BundleError} `product` or `device-state`
   * @throws {import("./errors.mjs").EdgeError} when a given key is none of those that the device keeps
   */
  async trust(keys, product) {
    if (!(await this.exists())) return { keys, product };
    const { product: own, keyed } = await this.state();
    if (own !== product)
      throw new BundleError("product", `The device ${this.folder} serves "${own}", not "${product}".`);
    return { keys: deciding(this.folder, await storedKeys(this.folder, keyed), keys), product };
  }

  /**
   * Verify and use the current round; when that fails, the one before.
   *
   * @template T
   * @param {Required<import("./bundle.mjs").Trust>} trust from `trust`
   * @param {string} runtime onnxruntime's version
   * @param {(bundle: import("./bundle.mjs").Bundle) => Promise<T>} use gets a full bundle, expired or not; refuses one
   *   that cannot serve here
   * @returns {Promise<{used: T, fallback: string | null}>} what `use` gave; `fallback` says why it got the one before
   * @throws {BundleError} what is wrong with the current round, when no good one is left
   */
  async serve(trust, runtime, use) {
    const state = await this.state();
    this.#unusable = [];
    try {
      return { used: await use(await openRound(this.folder, state.current, trust, runtime)), fallback: null };
    } catch (error) {
      if (!(error instanceof BundleError)) throw error;
      const fault = await explained(this.folder, state.current, trust, error);
      if (state.previous === null) throw fault;
      const used = await openRound(this.folder, state.previous, trust, runtime)
        .then(use)
        .catch((second) => {
          throw second instanceof BundleError ? fault : second; // the current round's is the one to mend
        });
      this.#unusable = [state.current];
      return { used, fallback: `${fault.message}; until then, ${await called(this.folder, state.previous)} answers` };
    }
  }

  /**
   * @param {Required<import("./bundle.mjs").Trust>} trust from `trust`
   * @param {string} runtime onnxruntime's version
   * @returns {Promise<import("./bundle.mjs").Bundle>} the round before the current one, verified
   * @throws {BundleError} `device-state` when there is none; what is wrong with it
   */
  async previous(trust, runtime) {
    const { previous } = await this.state();
    if (previous === null)
      throw new BundleError("device-state", `${this.folder} has no earlier round to go back to; install one`);
    try {
      return await openRound(this.folder, previous, trust, runtime);
    } catch (error) {
      const unchecked = { ...trust, keys: [] };
      if (!OTHER_KEY.includes(error.reason) || !(await isGood(this.folder, previous, unchecked, false))) throw error;
      const name = await called(this.folder, previous);
      throw new BundleError(error.reason, `${name} is signed by none of the keys in ${join(this.folder, "keys")}`);
    }
  }

  /** @returns {Promise<string>} what to call the current round, which may be damaged */
  async currentName() {
    return called(this.folder, (await this.state()).current);
  }

  /**
   * What a new bundle is verified against. A current round that is damaged may be installed again: then the sequence is
   * one below the highest. One that a rollback left may not.
   *
   * @param {boolean} [doubtful] whether to hash the encoder, which takes long, and not only see its size
   * @returns {Promise<import("./policy.mjs").Installed | null>} null before the first installation
   * @throws {BundleError} `device-state`
   */
  async installed(doubtful = false) {
    if (!(await this.exists())) return null;
    const state = await this.state();
    const { sequence: highest, current } = state;
    const trust = { keys: await storedKeys(this.folder, state.keyed), product: state.product };
    const rolledBack = current !== String(highest);
    const sequence = rolledBack || (await isGood(this.folder, current, trust, doubtful)) ? highest : highest - 1;
    const manifest = await newestManifest(this.folder, state, trust);
    if (manifest === null) return { sequence, rolledBack, encoder: "", preprocess: "", feature_dim: 0 };
    const { feature_dim } = manifest;
    const preprocess = entryOf(manifest, "preprocess").sha256;
    return { sequence, rolledBack, encoder: await encoderDigest(manifest), preprocess, feature_dim };
  }

  /**
   * @param {import("./bundle.mjs").Bundle} update a verified one that fits
   * @returns {Promise<import("./bundle.mjs").Bundle>} the same with the encoder and preprocessing of this device
   * @throws {BundleError} what is wrong with those, which only a full bundle mends
   */
  async complete(update) {
    try {
      return { ...update, ...(await openBase(this.folder, update.manifest)) };
    } catch (error) {
      if (!(error instanceof BundleError)) throw error;
      const what = `the encoder on this device cannot be used (${asideOf(error)}); ${FULL_BUNDLE}`;
      throw new BundleError(error.reason, what);
    }
  }

  /**
   * Make a verified bundle or update the current round; a crash at any moment leaves the old one or the new one.
   *
   * @param {import("./bundle.mjs").Bundle} bundle verified against `installed`
   * @param {Required<import("./bundle.mjs").Trust>} trust with which it was verified; a device that keeps no key yet
   *   keeps its keys from now on
   * @returns {Promise<string[]>} ids of the keys that are kept newly
   * @throws {BundleError} when the device changed in between, or cannot be written
   */
  async install(bundle, trust) {
    return writing(this.folder, async () => {
      if (!(await this.exists())) return this.#create(bundle, trust);
      const state = await this.state();
      const stored = await storedKeys(this.folder, state.keyed);
      const kept = stored.length === 0 ? trust.keys : stored;
      await this.#checkAgain(bundle, state, kept);
      const but = [String(bundle.manifest.sequence), ...this.#unusable];
      const previous = await wayBack(this.folder, state, { ...trust, keys: kept }, but);
      await this.#write(bundle, previous, state.keyed || stored.length > 0);
      if (stored.length > 0 || kept.length === 0) return [];
      // In this order a crash leaves no moment at which keys are enforced that are not there.
      const ids = await storeKeys(this.folder, kept);
      await writeState(this.folder, { ...(await this.state()), keyed: true });
      return ids;
    });
  }

  /**
   * Make the round before the current one again; what was left is not accepted a second time.
   *
   * @param {import("./device-state.mjs").State} seen the records when `previous` said that that round is good
   * @returns {Promise<void>} once it is on the disk
   * @throws {BundleError} `device-state` when they are others now, or the folder cannot be written
   */
  async rollback(seen) {
    const state = await this.state();
    if (Object.keys(state).some((name) => state[name] !== seen[name]))
      throw new BundleError("device-state", `another process changed ${this.folder} meanwhile; try again`);
    await writing(this.folder, () => writeState(this.folder, { ...state, current: state.previous, previous: null }));
  }

  async #create(bundle, { keys }) {
    await mkdir(this.folder, { recursive: true });
    await this.#requireVacant();
    await replaceFile(join(this.folder, INSTALLING), new Uint8Array());
    const kept = await storeKeys(this.folder, keys);
    await this.#write(bundle, null, kept.length > 0);
    await rm(join(this.folder, INSTALLING));
    await syncFolder(dirname(this.folder));
    return kept;
  }

  async #write(bundle, previous, keyed) {
    const { sequence, product } = bundle.manifest;
    const current = String(sequence);
    await writeBase(this.folder, bundle);
    await writeRound(this.folder, bundle);
    await writeState(this.folder, { schema: 1, product, sequence, current, previous, keyed });
    await prune(this.folder, previous === null ? [current] : [current, previous], product);
  }

  async #checkAgain(bundle, state, keys) {
    const installed = await this.installed(bundle.manifest.sequence === state.sequence);
    checkProduct(bundle.manifest, state.product);
    checkSequence(bundle.manifest, installed);
    await checkParts(bundle.manifest, installed);
    if (keys.length !== 0 && !keys.some((key) => key.id === bundle.keyId))
      throw new BundleError("unsigned", "None of the keys that the device is to hold signed this bundle.");
    if (bundle.manifest.isUpdate && !(await hasBase(this.folder, bundle.manifest)))
      throw new BundleError("incomplete", `the encoder on this device is missing or damaged; ${FULL_BUNDLE}`);
  }

  async #requireVacant() {
    const strange = (await readdir(this.folder)).filter(
      (name) => !OWN.includes(name) && !name.endsWith(".tmp") && !isLeftBehind(name),
    );
    if (strange.length === 0) return;
    const list = strange.sort().join(", ").slice(0, 200);
    throw new BundleError("device-state", `${this.folder} holds other things (${list}); name a new folder.`);
  }


}
