import { asideOf, BundleError } from "./errors.mjs";
import { isLeftBehind } from "./open-bundle.mjs";

/** Name of the file of records in a device's storage. */
export const STATE = "state.json";

const MAX_STATE = 16_384;

/**
 * Where a device keeps what it has. Names are `file` or `folder/file`.
 *
 * @typedef {object} StorageMethods
 * @property {string} place what to call it
 * @property {(name: string, bytes: Uint8Array<ArrayBuffer>) => Promise<void>} write a file, whole or not at all; once
 *   this resolves it outlasts a power cut, as far as the platform allows
 * @property {() => Promise<string[]>} list names of files and folders at the top
 * @property {(name: string) => Promise<void>} remove a file, or a folder with all its files
 */
/** @typedef {StorageMethods & Pick<import("./signed-manifest.mjs").Source, "read">} Storage */

/**
 * What a device remembers.
 *
 * @typedef {object} State
 * @property {string} product of every bundle that it takes
 * @property {number} sequence the highest ever accepted; it never goes down
 * @property {number | null} current sequence of the round that serves, null until the first one is installed
 * @property {number | null} previous sequence of the round to go back to
 * @property {string[]} keys base64 of the raw public keys that it trusts; with any, the others do not count
 */

/**
 * @param {Storage} storage of a device
 * @returns {Promise<State | null>} what it remembers, null when the storage is empty
 * @throws {BundleError} `device-state` when the records are damaged, or missing beside other files
 */
export async function readState(storage) {
  const raw = await storage.read(STATE, MAX_STATE);
  if (raw === null) {
    const found = (await storage.list()).filter((name) => !isLeftBehind(name)).sort();
    if (found.length === 0) return null;
    refuseRecords(storage, `${STATE} is missing beside ${found.join(", ").slice(0, 200)}`);
  }
  try {
    const state = JSON.parse(new TextDecoder().decode(raw));
    if (isState(state)) return state;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return refuseRecords(storage, `${STATE} does not say what it should`);
}

/**
 * Write the records in one step: at this moment another round becomes the current one.
 *
 * @param {Storage} storage of a device
 * @param {State} state what to remember
 */
export async function writeState(storage, { product, sequence, current, previous, keys }) {
  const text = JSON.stringify({ product, sequence, current, previous, keys });
  await storage.write(STATE, new TextEncoder().encode(text));
}

/**
 * @param {Storage} storage of a device
 * @param {string} what is wrong with its records
 * @returns {never}
 * @throws {BundleError} always: `device-state`
 */
export function refuseRecords({ place }, what) {
  const text = `The records of ${place} are damaged (${what}); install a full bundle in a new place.`;
  throw new BundleError("device-state", text);
}

/**
 * Give a full disk, or a place that cannot be written, a reason.
 *
 * @param {Storage} storage of a device
 * @param {() => Promise<void>} action what writes there
 * @throws {BundleError} `device-state` for every error of the system
 */
export async function writing({ place }, action) {
  await action().catch((error) => {
    if (error instanceof BundleError) throw error;
    const text = `${place} cannot be written (${asideOf(error)}); nothing is half-installed: free some space or mend`;
    throw new BundleError("device-state", `${text} the permissions, then try again.`);
  });
}

/** @param {string} name of something in the storage @returns {boolean} whether a device puts such there */
export const isOwn = (name) => name === STATE || /^(round|encoder)-/.test(name);

/** @param {any} state from JSON @returns {state is State} whether it is one */
function isState(state) {
  const isRound = (value) => value === null || (Number.isSafeInteger(value) && value >= 0);
  return (
    typeof state?.product === "string" &&
    Number.isSafeInteger(state.sequence) &&
    isRound(state.current) &&
    isRound(state.previous) &&
    Array.isArray(state.keys) &&
    state.keys.every((key) => typeof key === "string")
  );
}
