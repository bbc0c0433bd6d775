import { lstat, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { openBundle } from "./bundle.mjs";
import { dump, parse } from "./canonical.mjs";
import { replaceFile, writeFolder } from "./durable.mjs";
import { BundleError } from "./errors.mjs";
import { folderSource } from "./folder.mjs";
import { loadPublicKey } from "./keys.mjs";
import { baseName } from "./policy.mjs";

const STATE = "state.json";
const MAX_STATE = 4096;
const ROUND = /^(0|[1-9][0-9]{0,15})$/;

/**
 * A device folder as the Python package makes it: the encoder once, a head for each round, and the highest sequence
 * ever accepted. Its lock is Python's own, so only one program may update a folder at a time.
 */
export class Device {
  #folder;

  /** @param {string} folder path of the device folder */
  constructor(folder) {
    this.#folder = folder;
  }

  /**
   * @param {string} folder any path
   * @returns {Promise<boolean>} whether it is a device folder, be it damaged or not
   */
  static async isDevice(folder) {
    try {
      await lstat(join(folder, STATE));
      return true;
    } catch (error) {
      if (error.code === "ENOENT" || error.code === "ENOTDIR") return false;
      throw error;
    }
  }

  /**
   * What new bundles have to prove here.
   *
   * @param {readonly import("./keys.mjs").PublicKey[]} keys besides those stored in the folder
   * @param {string} product what the caller serves
   * @returns {Promise<import("./bundle.mjs").Trust>} all keys, and the product
   * @throws {BundleError} `product` or `device-state`
   */
  async trust(keys, product) {
    const state = await this.#state();
    if (state.product !== product)
      throw new BundleError("product", `The device serves "${state.product}", not "${product}".`);
    return { keys: [...keys, ...(await this.#storedKeys())], product };
  }

  /**
   * Verify and return the round that serves; when it is damaged, the one before.
   *
   * @param {import("./bundle.mjs").Trust} trust from `trust`
   * @param {string} runtime onnxruntime's version
   * @returns {Promise<{bundle: import("./bundle.mjs").Bundle, warning: string | null}>} always full, expired or not
   * @throws {BundleError} what is wrong with the current round, when no good one is left
   */
  async current(trust, runtime) {
    const state = await this.#state();
    try {
      return { bundle: await this.#openRound(state.current, trust, runtime), warning: null };
    } catch (error) {
      if (!(error instanceof BundleError) || state.previous === null) throw error;
      const bundle = await this.#openRound(state.previous, trust, runtime).catch(() => {
        throw error; // the current round's fault is the one to mend
      });
      return {
        bundle,
        warning: `Round ${state.current} cannot be used (${error.message}); ${state.previous} serves instead.`,
      };
    }
  }

  /**
   * @param {import("./bundle.mjs").Bundle} bundle from `current`
   * @returns {Promise<import("./policy.mjs").Installed>} what a newer one is verified against
   */
  async installed(bundle) {
    return { ...bundle.installed, sequence: (await this.#state()).sequence };
  }

  /**
   * Make a verified update the current round; a crash at any moment leaves the old one or the new one.
   *
   * @param {import("./bundle.mjs").Bundle} bundle an update, verified against `installed`
   * @returns {Promise<void>} once it is on the disk
   * @throws {BundleError} `replay` or `rollback` when another program was faster
   */
  async commit(bundle) {
    const state = await this.#state();
    const { sequence } = bundle.manifest;
    if (sequence <= state.sequence) {
      throw new BundleError(
        sequence === state.sequence ? "replay" : "rollback",
        `Sequence ${state.sequence} was accepted meanwhile.`,
      );
    }
    const { name } = bundle.manifest.entries.find((entry) => entry.role === "head");
    const signature = bundle.signature === null ? {} : { "manifest.sig": bundle.signature };
    const files = { "manifest.json": bundle.raw, [name]: bundle.head, ...signature };
    await writeFolder(join(this.#folder, "rounds", String(sequence)), files);
    const next = { ...state, sequence, current: String(sequence), previous: state.current };
    await replaceFile(join(this.#folder, STATE), dump(next));
    await this.#prune([next.current, next.previous]);
  }

  async #prune(kept) {
    const rounds = join(this.#folder, "rounds");
    const old = (await readdir(rounds)).filter((name) => !kept.includes(name));
    await Promise.all(old.map((name) => rm(join(rounds, name), { recursive: true, force: true })));
  }

  async #openRound(name, trust, runtime) {
    const base = async (manifest) => folderSource(join(this.#folder, "base", await baseName(manifest)));
    const bundle = await openBundle(folderSource(join(this.#folder, "rounds", name)), trust, {
      runtime,
      now: null,
      base,
    });
    if (String(bundle.manifest.sequence) !== name) damaged(`rounds/${name} holds sequence ${bundle.manifest.sequence}`);
    return bundle;
  }

  async #state() {
    let state;
    try {
      state = parse((await folderSource(this.#folder).read(STATE, MAX_STATE)) ?? new Uint8Array());
    } catch (error) {
      if (!(error instanceof BundleError)) throw error;
      damaged(`${STATE}: ${error.message}`);
    }
    if (!isState(state)) damaged(`${STATE} does not say what it should`);
    return state;
  }

  async #storedKeys() {
    const folder = join(this.#folder, "keys");
    const names = await readdir(folder).catch((error) => {
      if (error.code === "ENOENT") return [];
      throw error;
    });
    const pems = names
      .filter((name) => name.endsWith(".pub"))
      .sort()
      .map((name) => readFile(join(folder, name), "utf8"));
    return Promise.all(
      (await Promise.all(pems)).map((pem) => loadPublicKey(pem).catch((error) => damaged(error.message))),
    );
  }
}

function damaged(what) {
  throw new BundleError(
    "device-state",
    `The device folder's records are damaged (${what}); install a full bundle anew, into a new folder.`,
  );
}

function isState(state) {
  const keys = ["current", "previous", "product", "schema", "sequence"];
  if (typeof state !== "object" || state === null || Object.keys(state).sort().join() !== keys.join()) return false;
  const { schema, product, sequence, current, previous } = state;
  const isRound = (value) => typeof value === "string" && ROUND.test(value) && Number(value) <= sequence;
  return (
    schema === 1 &&
    typeof product === "string" &&
    product !== "" &&
    Number.isSafeInteger(sequence) &&
    isRound(current) &&
    (previous === null || isRound(previous))
  );
}
