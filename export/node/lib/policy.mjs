import { sha256 } from "./bytes.mjs";
import { BundleError } from "./errors.mjs";
import { entryOf } from "./manifest.mjs";

/**
 * What the device runs now; an update must fit it and be newer.
 *
 * @typedef {object} Installed
 * @property {number} sequence the highest that this device ever accepted; one less when that round is damaged
 * @property {string} encoder what `encoderDigest` says of its encoder; empty when no installed round can be read
 * @property {string} preprocess SHA-256 of preprocess.onnx
 * @property {number} feature_dim width of an image feature
 * @property {boolean} [rolledBack] whether a rollback left the round of that sequence
 */

/**
 * Decide from the manifest alone whether a bundle may be used here and now.
 *
 * @param {import("./manifest.mjs").Manifest} manifest a checked manifest, its signature already verified
 * @param {object} here what this device is
 * @param {string} here.product the product that it serves
 * @param {Installed | null} here.installed what it runs now, null when nothing
 * @param {string | null} here.runtime version of its onnxruntime, null to skip the check
 * @param {number | null} here.now UTC seconds, null to skip the check of times
 * @returns {Promise<void>} once every rule is kept
 * @throws {BundleError} `product`, `incomplete`, `replay`, `rollback`, `not-yet-valid`, `expired`, `runtime-too-old`,
 *   `other-encoder`, `other-preprocess` or `feature-width`
 */
export async function checkPolicy(manifest, { product, installed, runtime, now }) {
  checkProduct(manifest, product);
  checkSequence(manifest, installed);
  checkTime(manifest, now);
  checkRuntime(manifest, runtime);
  await checkParts(manifest, installed);
}

/**
 * One hash that names the encoder, its separate data included.
 *
 * @param {import("./manifest.mjs").Manifest} manifest a checked manifest
 * @returns {Promise<string>} SHA-256 of the sorted lines `<name> <sha256>\n`
 */
export async function encoderDigest(manifest) {
  const parts = manifest.entries.filter((entry) => entry.role.startsWith("encoder"));
  const lines = parts.map((entry) => `${entry.name} ${entry.sha256}\n`).sort();
  return sha256(new TextEncoder().encode(lines.join("")));
}

/**
 * Name under which a device files the encoder and preprocessing that rounds share.
 *
 * @param {import("./manifest.mjs").Manifest} manifest a checked manifest
 * @returns {Promise<string>} 16 hex digits
 */
export async function baseName(manifest) {
  const parts = `${await encoderDigest(manifest)} ${entryOf(manifest, "preprocess").sha256}\n`;
  return (await sha256(new TextEncoder().encode(parts))).slice(0, 16);
}

/**
 * @param {import("./manifest.mjs").Manifest} manifest a checked manifest
 * @param {string} product that the device serves
 * @throws {BundleError} `product`
 */
export function checkProduct(manifest, product) {
  if (manifest.product === product) return;
  throw new BundleError("product", `The bundle is for "${manifest.product}" and this device serves "${product}".`);
}

/**
 * @param {import("./manifest.mjs").Manifest} manifest a checked manifest
 * @param {Installed | null} installed what the device has
 * @throws {BundleError} `replay` or `rollback`
 */
export function checkSequence(manifest, installed) {
  if (installed === null || manifest.sequence > installed.sequence) return;
  if (manifest.sequence === installed.sequence) {
    const why = installed.rolledBack
      ? "was accepted before and left by a rollback; export the round again, it then gets a new sequence."
      : "was accepted before: there is nothing newer.";
    throw new BundleError("replay", `Sequence ${manifest.sequence} ${why}`);
  }
  throw new BundleError(
    "rollback",
    `Sequence ${manifest.sequence} is older than ${installed.sequence}, which this device` +
      " has already accepted. To go back, sign the old round again with a new sequence.",
  );
}

/**
 * @param {import("./manifest.mjs").Manifest} manifest a checked manifest
 * @param {number | null} now UTC seconds, null to skip the check
 * @throws {BundleError} `not-yet-valid` or `expired`
 */
export function checkTime(manifest, now) {
  if (now === null) return;
  if (manifest.not_before !== null && now < manifest.not_before) {
    throw new BundleError(
      "not-yet-valid",
      `The bundle is valid from ${toDate(manifest.not_before)}, and it is ${toDate(now)} here.`,
    );
  }
  if (manifest.expires !== null && now >= manifest.expires) {
    throw new BundleError(
      "expired",
      `The bundle expired at ${toDate(manifest.expires)}, and it is ${toDate(now)} here. Fetch a newer one.`,
    );
  }
}

/**
 * @param {import("./manifest.mjs").Manifest} manifest of an installed round
 * @returns {string | null} that it is out of its time now; it goes on serving
 */
export function expiryWarning(manifest) {
  try {
    checkTime(manifest, Date.now() / 1000);
    return null;
  } catch (error) {
    return `${error.message} It goes on serving because it was accepted before.`;
  }
}

function toDate(seconds) {
  const milliseconds = 1000 * seconds;
  return Math.abs(milliseconds) <= 8.64e15 ? new Date(milliseconds).toISOString() : `${seconds} s`;
}

/**
 * @param {import("./manifest.mjs").Manifest} manifest a checked manifest
 * @param {string | null} runtime version of onnxruntime, null to skip the check
 * @throws {BundleError} `runtime-too-old`
 */
export function checkRuntime(manifest, runtime) {
  if (runtime === null) return;
  const { lowest } = manifest.onnxruntime;
  const [have, need] = [runtime, lowest].map((version) => version.split(".").map((part) => Number.parseInt(part, 10)));
  const at = need.findIndex((part, index) => part !== (have[index] ?? 0));
  if (at < 0 || (have[at] ?? 0) > need[at]) return;
  throw new BundleError("runtime-too-old", `The bundle needs onnxruntime ${lowest} or newer, and this is ${runtime}.`);
}

/**
 * @param {import("./manifest.mjs").Manifest} manifest a checked manifest
 * @param {Installed | null} installed what the device has
 * @returns {Promise<void>} once an update fits; a full bundle always does
 * @throws {BundleError} `incomplete`, `other-encoder`, `other-preprocess` or `feature-width`
 */
export async function checkParts(manifest, installed) {
  if (!manifest.isUpdate) return;
  if (installed === null || installed.encoder === "") {
    throw new BundleError("incomplete", "This is an update, without an encoder: install a full bundle first.");
  }
  if ((await encoderDigest(manifest)) !== installed.encoder) {
    throw new BundleError("other-encoder", "The update was made for another encoder than the installed one.");
  }
  if (entryOf(manifest, "preprocess").sha256 !== installed.preprocess) {
    throw new BundleError("other-preprocess", "The update was made for another preprocessing than the installed one.");
  }
  if (manifest.feature_dim !== installed.feature_dim) {
    throw new BundleError(
      "feature-width",
      `The update is for features of width ${manifest.feature_dim}, and the installed` +
        ` encoder gives ${installed.feature_dim}.`,
    );
  }
}
