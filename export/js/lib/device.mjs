import { checkProduct, checkRuntime, expiryWarnings } from "./acceptance.mjs";
import { isOwn, readState, refuseRecords, STATE, writeState, writing } from "./device-state.mjs";
import { changeOf, EdgeClassifier } from "./edge-classifier.mjs";
import { asideOf, BundleError, EdgeError } from "./errors.mjs";
import { importPublicKey } from "./keys.mjs";
import { baseEntries, entryOf } from "./manifest.mjs";
import { openBundle, readBase, readListed } from "./open-bundle.mjs";
import { versionOf } from "./sessions.mjs";
import { readManifest } from "./signed-manifest.mjs";

const FULL_BUNDLE = "export a full bundle (fedclip-export bundle) and install that";

/** The warning of a bundle that was opened without a key. */
export const UNCHECKED = "signature not checked (no key): hashes were checked, the origin was not";

/** @typedef {import("./manifest.mjs").Manifest} Manifest */
/** @typedef {import("./keys.mjs").PublicKey} PublicKey */
/** @typedef {import("./edge-classifier.mjs").Change} Change */
/** @typedef {import("./open-bundle.mjs").Bundle} Bundle */
/** @typedef {import("./signed-manifest.mjs").Source} Source */
/** @typedef {import("./signed-manifest.mjs").Trust} Trust */
/** @typedef {import("./device-state.mjs").State} State */

/**
 * What to trust and how to run.
 *
 * @typedef {object} Settings
 * @property {readonly PublicKey[]} [keys] with any, a signature by one of them is required
 * @property {string} [product] what this device serves; `fedclip` unless told
 * @property {boolean} [allowUnsigned] whether, without any key, the origin of bundles may go unchecked
 * @property {object} [session] onnxruntime's session options
 * @property {Source | null} [base] where encoder and preprocessing are read from, when they are not to be stored
 */

/** A device: the encoder once, the head of the current and of the previous round, and what it must never forget. */
export class Device {
  #ort;
  #storage;
  #settings;
  /** @type {EdgeClassifier | null} */ #serving = null;
  /** @type {string | null} */ #fallback = null;
  /** @type {Promise<unknown>} */ #last = Promise.resolve();

  /**
   * @param {any} ort the onnxruntime module (onnxruntime-node, onnxruntime-web)
   * @param {import("./device-state.mjs").Storage} storage where it keeps what it has; one program at a time may write
   * @param {Settings} [settings] what to trust and how to run
   */
  constructor(ort, storage, { keys = [], product = "fedclip", allowUnsigned = false, session = {}, base = null } = {}) {
    this.#ort = ort;
    this.#storage = storage;
    this.#settings = { keys, product, allowUnsigned, session, base };
  }

  /** @returns {Promise<boolean>} whether something was installed here, be it damaged or not */
  async exists() {
    return (await this.#storage.list()).some(isOwn);
  }

  /** @returns {boolean} whether anything serves */
  get serves() {
    return this.#serving !== null;
  }

  /** @returns {EdgeClassifier} what serves @throws {EdgeError} when nothing does */
  get serving() {
    if (this.#serving !== null) return this.#serving;
    throw new EdgeError(`Nothing of ${this.#storage.place} serves: open it, or install a full bundle.`);
  }

  /** @returns {Manifest} of the head that serves */
  get manifest() {
    return this.serving.manifest;
  }

  /** @returns {string[]} what an operator should know: a damaged round, no key, an expired round */
  get warnings() {
    return [this.#fallback ?? [], ...warningsOf(this.serving)].flat();
  }

  /**
   * Classify a picture. An update in between does not touch a prediction under way.
   *
   * @param {import("./edge-classifier.mjs").RgbImage} image decoded, upright
   * @returns {Promise<import("./edge-classifier.mjs").Prediction>} labels and probabilities
   */
  async predict(image) {
    return this.serving.predict(image);
  }

  /**
   * Verify and serve the current round, expired or not; when it is damaged, the one before. Call it again to serve what
   * another program has installed.
   *
   * @returns {Promise<Change | null>} what is different now, null when nothing is
   * @throws {BundleError} what is wrong with the current round, when no good one is left; what served before goes on
   */
  async open() {
    return this.#alone(async () => this.#open(await this.#requireState()));
  }

  /**
   * Install a full bundle or an update: verify it, let it prove itself, record it durably, then swap one reference.
   * A current round that is damaged may be installed again.
   *
   * @param {Source} source where its files are
   * @throws {BundleError} why it is refused; the device is as it was, and what served before goes on
   * @throws {EdgeError} when a given key is none of those that the device keeps
   */
  async update(source) {
    return this.#alone(async () => {
      const start = performance.now();
      const candidate = await this.#candidate(source);
      const keysAdded = await this.#record(candidate).catch(async (error) => {
        await candidate.next.retire();
        throw error;
      });
      this.#fallback = null;
      return { ...(await this.#swap(candidate.next)), keysAdded, milliseconds: performance.now() - start };
    });
  }

  /**
   * Verify what `update` would install and let it prove itself, but install nothing.
   *
   * @param {Source} source where its files are
   * @returns {Promise<EdgeClassifier>} what was verified; it can no longer predict
   * @throws {BundleError} why it would be refused
   */
  async check(source) {
    return this.#alone(async () => {
      const { next } = await this.#candidate(source);
      await next.retire();
      return next;
    });
  }

  /**
   * Go back to the round before, which is still stored; the one that is left is never accepted again.
   *
   * @throws {BundleError} when there is none, or it is damaged; what served before goes on
   */
  async rollback() {
    return this.#alone(async () => {
      const start = performance.now();
      const state = await this.#requireState();
      const { current, previous } = state;
      await this.#open(state);
      if (previous === null)
        throw new BundleError("device-state", `${this.#storage.place} has no earlier round to go back to; install one`);
      const givenUp = this.#fallback === null ? "" : `the round of sequence ${current}`;
      const next = await this.#load(previous, await this.#trust(state));
      await this.#commit({ ...state, current: previous, previous: null }, state);
      this.#fallback = null;
      return { ...(await this.#swap(next)), givenUp, milliseconds: performance.now() - start };
    });
  }

  /** @returns {Promise<string[]>} ids of the keys that this device keeps and enforces */
  async keys() {
    return (await this.#stored(await this.#requireState())).map(({ id }) => id);
  }

  /**
   * Change the trusted keys by hand, as whoever has the device at hand may.
   *
   * @param {readonly PublicKey[]} added to trust from now on
   * @param {readonly string[]} removed ids of keys to trust no longer
   * @returns {Promise<string[]>} ids of the keys that are kept now
   * @throws {EdgeError} when none would be left, or one to remove is not there
   */
  async changeKeys(added, removed) {
    return this.#alone(async () => {
      const state = await this.#requireState();
      const stored = await this.#stored(state);
      const strange = removed.find((id) => !stored.some((key) => key.id === id));
      if (strange !== undefined) throw new EdgeError(`${this.#storage.place} holds no key ${strange}`);
      const kept = union(stored, added).filter(({ id }) => !removed.includes(id));
      if (kept.length === 0) throw new EdgeError("The last key cannot be removed: add another one with it.");
      await this.#commit({ ...state, keys: kept.map(({ raw }) => raw) }, state);
      return kept.map(({ id }) => id);
    });
  }

  /** @param {State} state as recorded @returns {Promise<Change | null>} as `open` */
  async #open(state) {
    const { current, previous } = state;
    if (current === null) throw new BundleError("device-state", `${this.#storage.place}: nothing is installed yet`);
    if (this.#serving?.manifest.sequence === current) return null;
    const trust = await this.#trust(state);
    let fault = "";
    const next = await this.#load(current, trust).catch((error) => {
      if (!(error instanceof BundleError) || previous === null) throw error;
      fault = `the round of sequence ${current} cannot be used (${asideOf(error)}); the same update mends it`;
      return this.#load(previous, trust).catch((second) => {
        throw second instanceof BundleError ? error : second; // the current round's is the one to mend
      });
    });
    this.#fallback = fault === "" ? null : `${fault}; until then round ${next.manifest.round} answers`;
    const change = await this.#swap(next);
    return change.sequence === change.oldSequence ? null : change;
  }

  /**
   * @param {number} sequence of a stored round
   * @param {Trust} trust keys and product
   * @returns {Promise<EdgeClassifier>} it, verified as if it were new, but for time and sequence
   */
  async #load(sequence, trust) {
    const source = within(this.#storage, roundName(sequence));
    const signed = await readManifest(source, trust);
    const { manifest } = signed;
    checkProduct(manifest, trust.product);
    checkRuntime(manifest, versionOf(this.#ort));
    const { sequence: found } = manifest;
    if (found !== sequence) refuseRecords(this.#storage, `${roundName(sequence)} holds sequence ${found}`);
    const head = await readListed(source, entryOf(manifest, "head"));
    return this.#start({ ...signed, head, base: null });
  }

  /** @param {Bundle} bundle verified; an update is given the stored encoder */
  async #start(bundle) {
    const { session, base: elsewhere } = this.#settings;
    const { manifest } = bundle;
    let { base } = bundle;
    if (base === null && !this.#serving?.fits(manifest))
      try {
        base = await readBase(elsewhere ?? within(this.#storage, baseName(manifest)), manifest);
      } catch (error) {
        if (!(error instanceof BundleError)) throw error;
        const text = `the encoder on this device cannot be used (${asideOf(error)}); ${FULL_BUNDLE}`;
        throw new BundleError(error.reason, text);
      }
    return EdgeClassifier.load(this.#ort, { ...bundle, base }, session, this.#serving);
  }

  /** @param {Source} source where its files are */
  async #candidate(source) {
    const state = await readState(this.#storage);
    const trust = await this.#trust(state);
    const installed = state === null || state.current === null ? null : await this.#installed(state);
    const bundle = await openBundle(source, trust, { installed, runtime: versionOf(this.#ort) });
    return { state, trust, bundle, next: await this.#start(bundle) };
  }

  /**
   * What a new bundle is verified against. A damaged current round may be installed again, but not one that a rollback
   * left.
   *
   * @param {State} state as recorded
   */
  async #installed(state) {
    const opened = await this.#open(state).catch((error) => {
      if (!(error instanceof BundleError)) throw error;
      return error;
    });
    const { sequence, current } = state;
    const rolledBack = current !== sequence;
    const damaged = !rolledBack && (opened instanceof BundleError || this.#fallback !== null);
    return { sequence, damaged, rolledBack, manifest: await this.#newestManifest(state) };
  }

  /** @param {State} state as recorded @returns {Promise<Manifest | null>} the first one that can be read */
  async #newestManifest({ current, previous }) {
    const rounds = [current, previous].filter((one) => one !== null);
    const sources = rounds.map((sequence) => within(this.#storage, roundName(sequence)));
    for (const source of [...sources, this.#settings.base ?? []].flat())
      try {
        // Whoever signed it: it only tells which encoder is installed.
        return (await readManifest(source, { keys: [], allowUnsigned: true })).manifest;
      } catch (error) {
        if (!(error instanceof BundleError)) throw error;
      }
    return null;
  }

  /**
   * @param {{state: State | null, trust: Trust, bundle: Bundle}} candidate verified and tested
   * @returns {Promise<string[]>} ids of the keys that are trusted newly, once all of it is stored
   */
  async #record({ state, trust, bundle }) {
    const { manifest, keyId, raw, signature, head, base } = bundle;
    const { product, sequence, next_keys: announced = [] } = manifest;
    const next = keyId === null ? [] : await Promise.all(announced.map(importPublicKey));
    const stored = state === null ? [] : state.keys;
    const keys = union(trust.keys, next);
    const before = this.#serving?.manifest.sequence ?? null;
    const previous = before !== sequence && [state?.current, state?.previous].includes(before) ? before : null;
    const files = { "manifest.json": raw, "manifest.sig": signature, [entryOf(manifest, "head").name]: head };
    const empty = { product, sequence: 0, current: null, previous: null, keys: [] };
    await writing(this.#storage, async () => {
      if (state === null) await writeState(this.#storage, empty);
      if (base !== null && this.#settings.base === null)
        for (const { role, name } of baseEntries(manifest))
          await this.#storage.write(`${baseName(manifest)}/${name}`, base[role]);
      await this.#storage.remove(roundName(sequence)); // what an interrupted or a damaged one left
      for (const [name, bytes] of Object.entries(files))
        if (bytes !== null) await this.#storage.write(`${roundName(sequence)}/${name}`, bytes);
    });
    const raws = keys.map((key) => key.raw);
    await this.#commit({ product, sequence, current: sequence, previous, keys: raws }, state ?? empty);
    await this.#prune(manifest, previous === null ? null : this.manifest);
    return keys.filter((key) => !stored.includes(key.raw)).map(({ id }) => id);
  }

  /** @param {State} state to remember @param {State} seen what the decision for it was based on */
  async #commit(state, seen) {
    if (JSON.stringify(await readState(this.#storage)) !== JSON.stringify(seen))
      throw new BundleError("device-state", `another program changed ${this.#storage.place} meanwhile; try again`);
    await writing(this.#storage, () => writeState(this.#storage, state));
  }

  /** Delete what no kept round needs; what cannot be deleted does no harm. @param {...(Manifest | null)} kept */
  async #prune(...kept) {
    const needed = kept.flatMap((one) => (one === null ? [] : [roundName(one.sequence), baseName(one)]));
    const needless = (name) => isOwn(name) && name !== STATE && !needed.includes(name);
    const unused = (await this.#storage.list()).filter(needless);
    await Promise.allSettled(unused.map((name) => this.#storage.remove(name)));
  }

  /** @returns {Promise<State>} what the device remembers */
  async #requireState() {
    return (await readState(this.#storage)) ?? refuseRecords(this.#storage, "there are none");
  }

  /** @param {State | null} state as recorded @returns {Promise<Trust>} what decides */
  async #trust(state) {
    const { keys, product, allowUnsigned } = this.#settings;
    if (state !== null && state.product !== product)
      throw new BundleError("product", `${this.#storage.place} serves "${state.product}", not "${product}".`);
    const stored = state === null ? [] : await this.#stored(state);
    const ids = stored.map(({ id }) => id);
    const strange = stored.length > 0 && keys.find(({ id }) => !ids.includes(id));
    if (strange)
      throw new EdgeError(
        `${this.#storage.place} enforces its own keys (${ids.join(", ")}); ${strange.id} is not` +
          " one of them. A signed bundle can announce it (--next-key), or 'fedclip-edge-node keys' adds it.",
      );
    return { keys: stored.length > 0 ? stored : keys, product, allowUnsigned };
  }

  /** @param {State} state as recorded @returns {Promise<PublicKey[]>} the keys in it */
  async #stored({ keys }) {
    const refuse = (error) => refuseRecords(this.#storage, `its keys: ${asideOf(error)}`);
    return Promise.all(keys.map(importPublicKey)).catch(refuse);
  }

  /** @param {EdgeClassifier} next serves from now on @returns {Promise<Change>} what is different */
  async #swap(next) {
    const old = this.#serving;
    const change = changeOf(old, next);
    this.#serving = next;
    await old?.retire();
    return change;
  }

  /**
   * One update, rollback or opening at a time; predictions do not wait.
   *
   * @template T
   * @param {() => Promise<T>} action what is to be done alone
   */
  #alone(action) {
    const mine = this.#last.then(action);
    this.#last = mine.catch(() => {});
    return mine;
  }
}

/**
 * @param {Pick<EdgeClassifier, "manifest" | "keyId">} served what serves
 * @returns {string[]} that nobody checked its origin, and that it is out of its time
 */
export function warningsOf({ manifest, keyId }) {
  return [...(keyId === null ? [UNCHECKED] : []), ...expiryWarnings(manifest)];
}

const roundName = (sequence) => `round-${sequence}`;

const baseName = (manifest) =>
  `encoder-${baseEntries(manifest).map((entry) => entry.sha256.slice(0, 12)).sort().join("-")}`;

/** @param {Pick<Source, "read">} storage of a device @param {string} folder in it @returns {Source} its files */
function within(storage, folder) {
  return { read: (name, limit) => storage.read(`${folder}/${name}`, limit), list: async () => null };
}

/** @param {readonly PublicKey[]} some @param {readonly PublicKey[]} others @returns {PublicKey[]} each of them once */
function union(some, others) {
  return [...new Map([...some, ...others].map((key) => [key.id, key])).values()];
}
