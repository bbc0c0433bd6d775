import { readFile, stat } from "node:fs/promises";
import ort from "onnxruntime-node";
import { Device } from "../lib/device.mjs";
import { EdgeClassifier } from "../lib/edge-classifier.mjs";
import { asideOf, EdgeError } from "../lib/errors.mjs";
import { loadPublicKey } from "../lib/keys.mjs";
import { openBundle } from "../lib/open-bundle.mjs";
import { versionOf } from "../lib/sessions.mjs";
import { FolderStorage } from "./folder-storage.mjs";

export { Device } from "../lib/device.mjs";
export { BundleError, EdgeError, ImageError, REASONS } from "../lib/errors.mjs";
export { openBundle } from "../lib/open-bundle.mjs";
export { decodeBytes, decodeFile } from "./decode.mjs";
export { EdgeClassifier, FolderStorage };

const MAX_PEM = 65_536;

/**
 * What to trust and how to run.
 *
 * @typedef {object} Options
 * @property {readonly string[]} [keys] PEM files of public keys; with any, a signature by one of them is required
 * @property {string} [product] what is served; `fedclip` unless told
 * @property {boolean} [allowUnsigned] whether, without any key, the origin of a bundle may go unchecked
 * @property {number} [threads] for the encoder; onnxruntime chooses without it
 */

/**
 * @param {string} folder of a device; need not exist before the first `update`
 * @param {Options} [options] keys count only where the device keeps none itself
 * @returns {Promise<Device>} on onnxruntime-node; nothing serves before `open` or `update`
 * @throws {EdgeError} when a key cannot be used
 */
export async function folderDevice(folder, options) {
  return new Device(ort, new FolderStorage(folder), await settingsOf(options));
}

/**
 * Verify and start a bundle as it was delivered. Nothing is remembered, so an older one in its place is accepted.
 *
 * @param {string} folder of the bundle
 * @param {Options} [options] what to trust and how to run
 * @param {EdgeClassifier | null} [beside] what serves, when this is an update for it
 * @throws {import("../lib/errors.mjs").BundleError} why it is refused
 * @throws {EdgeError} when a key cannot be used
 */
export async function loadBundle(folder, options, beside = null) {
  const { session, ...trust } = await settingsOf(options);
  const installed = beside && { sequence: beside.manifest.sequence, manifest: beside.manifest };
  const bundle = await openBundle(new FolderStorage(folder), trust, { installed, runtime: versionOf(ort) });
  return EdgeClassifier.load(ort, bundle, session, beside);
}

/**
 * @param {readonly string[]} paths PEM files of public keys
 * @throws {EdgeError} when one cannot be read or is something else, with its path
 */
export async function loadKeys(paths) {
  return Promise.all(
    paths.map(async (path) => {
      try {
        const found = await stat(path);
        if (!found.isFile() || found.size > MAX_PEM) throw new TypeError("it is not a small plain file");
        return await loadPublicKey(await readFile(path, "latin1"));
      } catch (error) {
        throw new EdgeError(`The key ${path} cannot be used: ${asideOf(error)}`);
      }
    }),
  );
}

/** @param {Options} [options] as given */
async function settingsOf({ keys = [], product = "fedclip", allowUnsigned = false, threads } = {}) {
  const limit = threads === undefined ? {} : { intraOpNumThreads: threads };
  const session = { logSeverityLevel: 3, extra: { session: { intra_op: { allow_spinning: "0" } } }, ...limit };
  return { keys: await loadKeys(keys), product, allowUnsigned, session };
}
