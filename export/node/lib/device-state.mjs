import { lstat } from "node:fs/promises";
import { join } from "node:path";
import { dump, parse } from "./canonical.mjs";
import { replaceFile } from "./durable.mjs";
import { asideOf, BundleError } from "./errors.mjs";
import { folderSource } from "./folder.mjs";

/** Name of the file of records in a device folder. */
export const STATE = "state.json";

const MAX_STATE = 4096;
const ROUND = /^(0|[1-9][0-9]{0,15})$/;
const FIELDS = ["current", "keyed", "previous", "product", "schema", "sequence"];

/**
 * What a device remembers.
 *
 * @typedef {object} State
 * @property {1} schema of the file
 * @property {string} product of every bundle that it takes
 * @property {number} sequence the highest ever accepted; it never goes down
 * @property {string} current name of the round that serves: its sequence
 * @property {string | null} previous the one to fall back to
 * @property {boolean} keyed whether keys were stored: from then on their absence is damage, and no permission
 */

/**
 * @param {string} folder a device folder
 * @returns {Promise<State>} what it remembers
 * @throws {BundleError} `device-state` when its records are damaged or missing
 */
export async function readState(folder) {
  let state;
  try {
    state = parse((await folderSource(folder).read(STATE, MAX_STATE)) ?? new Uint8Array());
  } catch (error) {
    if (!(error instanceof BundleError)) throw error;
    refuseRecords(folder, `${STATE}: ${asideOf(error)}`);
  }
  if (!isState(state)) refuseRecords(folder, `${STATE} does not say what it should`);
  return state;
}

/**
 * Write the records in one step: at this moment another round becomes the current one.
 *
 * @param {string} folder a device folder
 * @param {State} state what to remember
 * @returns {Promise<void>} once it is on the disk
 */
export async function writeState(folder, state) {
  await replaceFile(join(folder, STATE), dump(state));
}

/**
 * @param {string} folder a device folder
 * @param {string} what is wrong with its records
 * @throws {BundleError} always: `device-state`, with the way to repair it
 */
export function refuseRecords(folder, what) {
  throw new BundleError(
    "device-state",
    `The records of the device folder ${folder} are damaged (${what}); install a full bundle anew, into a new folder.`,
  );
}

/**
 * Turn a full disk or a folder that cannot be written into an error that says what still holds.
 *
 * @template T
 * @param {string} folder a device folder
 * @param {() => Promise<T>} action what writes there
 * @returns {Promise<T>} what it gives
 * @throws {BundleError} `device-state` for every error of the system
 */
export async function writing(folder, action) {
  try {
    return await action();
  } catch (error) {
    if (error.syscall === undefined) throw error;
    throw new BundleError(
      "device-state",
      `The device folder ${folder} cannot be written (${asideOf(error)}); nothing is half-installed: free some space` +
        " or mend the permissions, then try again (if that is refused as a replay, it is there).",
    );
  }
}

/**
 * @param {string} path any path
 * @returns {Promise<boolean>} whether something has this name, be it a broken link
 */
export async function isThere(path) {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") return false;
    throw error;
  }
}

function isState(state) {
  if (typeof state !== "object" || state === null || Object.keys(state).sort().join() !== FIELDS.join()) return false;
  const { schema, product, sequence, current, previous, keyed } = state;
  const isRound = (value) => typeof value === "string" && ROUND.test(value) && Number(value) <= sequence;
  return (
    schema === 1 &&
    typeof product === "string" &&
    product !== "" &&
    Number.isSafeInteger(sequence) &&
    isRound(current) &&
    typeof keyed === "boolean" &&
    (previous === null || isRound(previous))
  );
}
