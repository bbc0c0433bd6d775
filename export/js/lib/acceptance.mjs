import { BundleError } from "./errors.mjs";
import { baseEntries, entryOf } from "./manifest.mjs";

/** @typedef {import("./manifest.mjs").Manifest} Manifest */

/**
 * What the device runs now; an update must fit it and be newer.
 *
 * @typedef {object} Installed
 * @property {number} sequence the highest that this device ever accepted
 * @property {Manifest | null} manifest of an installed round, null when none can be read
 * @property {boolean} [damaged] whether the round of that sequence serves no longer and may be installed again
 * @property {boolean} [rolledBack] whether a rollback left the round of that sequence
 */

/**
 * @param {Manifest} left a checked manifest
 * @param {Manifest} right another
 * @returns {boolean} whether they are for the same encoder and preprocessing
 */
export function hasSameBase(left, right) {
  return left.feature_dim === right.feature_dim && namesOf(left, "") === namesOf(right, "");
}

/**
 * @param {Manifest} manifest a checked manifest
 * @param {string} product that the device serves
 * @throws {BundleError} `product`
 */
export function checkProduct(manifest, product) {
  if (manifest.product !== product)
    throw new BundleError("product", `The bundle is for "${manifest.product}" and this device serves "${product}".`);
}

/**
 * @param {Manifest} manifest a checked manifest
 * @param {string | null} runtime version of onnxruntime, null to skip the check
 * @throws {BundleError} `runtime-too-old`
 */
export function checkRuntime({ onnxruntime: { lowest } }, runtime) {
  const numbers = (version) => version.split(".").map((part) => Number.parseInt(part, 10));
  const have = numbers(runtime ?? lowest);
  const [at, need] = [...numbers(lowest).entries()].find(([index, part]) => part !== (have[index] ?? 0)) ?? [0, 0];
  if ((have[at] ?? 0) < need)
    throw new BundleError("runtime-too-old", `The bundle needs onnxruntime ${lowest} or newer; this is ${runtime}.`);
}

/**
 * @param {Manifest} manifest of an installed round
 * @returns {string[]} that it is out of its time now, if so; it goes on serving
 */
export function expiryWarnings(manifest) {
  try {
    checkTime(manifest, Date.now() / 1000);
    return [];
  } catch (error) {
    return [`${/** @type {Error} */ (error).message} It goes on serving because it was accepted before.`];
  }
}

/** @param {Manifest} manifest checked @param {Installed | null} installed what the device has */
export function checkSequence({ sequence }, installed) {
  if (installed === null || sequence > installed.sequence) return;
  if (installed.damaged && sequence === installed.sequence) return;
  if (sequence < installed.sequence)
    throw new BundleError(
      "rollback",
      `Sequence ${sequence} is older than ${installed.sequence}, which was accepted here before. To go back, sign the` +
        " old round again with a new sequence.",
    );
  const why = installed.rolledBack
    ? "was accepted before and left by a rollback; export the round again, it then gets a new sequence."
    : "was accepted before: there is nothing newer.";
  throw new BundleError("replay", `Sequence ${sequence} ${why}`);
}

/** @param {Manifest} manifest checked @param {number} now UTC seconds */
export function checkTime({ not_before: since, expires }, now) {
  if (since !== null && now < since)
    throw new BundleError("not-yet-valid", `The bundle is valid from ${moment(since)}, and it is ${moment(now)} here.`);
  if (expires !== null && now >= expires)
    throw new BundleError("expired", `The bundle expired at ${moment(expires)}, and it is ${moment(now)} here.`);
}

/** @param {number} seconds since 1970 @returns {string} for people */
export function moment(seconds) {
  if (seconds >= 253_402_300_800) return `${seconds} s UTC`; // beyond the year 9999
  return `${new Date(1000 * seconds).toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** @param {Manifest} manifest checked @param {Installed | null} installed what the device has */
export function checkParts(manifest, installed) {
  if (!manifest.isUpdate) return;
  if (!installed?.manifest)
    throw new BundleError("incomplete", "This is an update, without an encoder: install a full bundle first.");
  if (namesOf(manifest, "encoder") !== namesOf(installed.manifest, "encoder"))
    throw new BundleError("other-encoder", "The update was made for another encoder than the installed one.");
  if (entryOf(manifest, "preprocess").sha256 !== entryOf(installed.manifest, "preprocess").sha256)
    throw new BundleError("other-preprocess", "The update was made for another preprocessing than the installed one.");
  const [wanted, given] = [manifest.feature_dim, installed.manifest.feature_dim];
  if (wanted !== given)
    throw new BundleError("feature-width", `The update is for features of width ${wanted}, not ${given}.`);
}

/** @param {Manifest} manifest checked @param {string} role start of the roles that count */
function namesOf(manifest, role) {
  const parts = baseEntries(manifest).filter((entry) => entry.role.startsWith(role));
  return parts.map(({ name, sha256 }) => `${name} ${sha256}`).sort().join();
}
