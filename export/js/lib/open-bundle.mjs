import { checkParts, checkProduct, checkRuntime, checkSequence, checkTime } from "./acceptance.mjs";
import { sha256 } from "./bytes.mjs";
import { BundleError } from "./errors.mjs";
import { baseEntries, entryOf } from "./manifest.mjs";
import { readManifest } from "./signed-manifest.mjs";

const LEFT_BEHIND =
  /^(\._.*|\.ds_store|thumbs\.db|desktop\.ini|icon\r|__macosx|@eadir|\$recycle\.bin|lost\+found)$/i;
const LIMITS = /** @type {Record<string, number>} */ ({ head: 2 ** 26, preprocess: 2 ** 20 });

/** @typedef {import("./signed-manifest.mjs").Source} Source */
/** @typedef {Record<string, Uint8Array<ArrayBuffer>>} Files bytes by the role of each file */

/**
 * A bundle whose every byte was checked.
 *
 * @typedef {import("./signed-manifest.mjs").Signed & {head: Uint8Array<ArrayBuffer>, base: Files | null}} Bundle `base`
 *   is null in an update
 */

/**
 * Verify a bundle, or an update against what is installed. Nothing is parsed before its signature is verified, and
 * nothing is handed on before its hash is.
 *
 * @param {Source} source where the files are
 * @param {import("./signed-manifest.mjs").Trust} trust keys and product of this device
 * @param {object} [here] circumstances
 * @param {import("./acceptance.mjs").Installed | null} [here.installed] what the device runs now
 * @param {string | null} [here.runtime] onnxruntime's version, for example "1.30.0"
 * @param {number} [here.now] UTC seconds
 * @returns {Promise<Bundle>} what was verified
 * @throws {BundleError} with the reason of the first rule that it breaks
 */
export async function openBundle(source, trust, { installed = null, runtime = null, now = Date.now() / 1000 } = {}) {
  const signed = await readManifest(source, trust);
  const { manifest, signature } = signed;
  checkProduct(manifest, trust.product);
  checkSequence(manifest, installed);
  checkTime(manifest, now);
  checkRuntime(manifest, runtime);
  checkParts(manifest, installed);
  const carried = manifest.entries.filter((entry) => !entry.installed).map(({ name }) => name);
  await checkNames(source, ["manifest.json", ...(signature ? ["manifest.sig"] : []), ...carried]);
  const head = await readListed(source, entryOf(manifest, "head"));
  return { ...signed, head, base: manifest.isUpdate ? null : await readBase(source, manifest) };
}

/**
 * @param {Source} source where encoder and preprocessing lie
 * @param {import("./manifest.mjs").Manifest} manifest lists them
 */
export async function readBase(source, manifest) {
  /** @type {Files} */
  const files = {};
  for (const entry of baseEntries(manifest)) files[entry.role] = await readListed(source, entry);
  return files;
}

/**
 * @param {Source} source where it lies
 * @param {import("./manifest.mjs").FileEntry} entry its name, size and hash
 * @throws {BundleError} `too-large`, `missing-file`, `size` or `hash`
 */
export async function readListed(source, { name, role, size, sha256: expected }) {
  if (size > (LIMITS[role] ?? size))
    throw new BundleError("too-large", `${name} is listed with ${size} bytes; at most ${LIMITS[role]} are allowed.`);
  const bytes = await source.read(name, size);
  if (bytes === null) throw new BundleError("missing-file", `There is no ${name}. Fetch all files again.`);
  if (bytes.length !== size)
    throw new BundleError("size", `${name} does not have the ${size} bytes of the manifest. Fetch it again.`);
  if ((await sha256(bytes)) !== expected)
    throw new BundleError("hash", `${name} is not the file that the manifest names. Fetch it again.`);
  return bytes;
}

/**
 * @param {string} name of a file or a folder
 * @returns {boolean} whether operating systems put such beside the files of their users; it is never opened
 */
export const isLeftBehind = (name) => LEFT_BEHIND.test(name);

/** @param {Source} source a folder @param {string[]} wanted names that it has to have, and no others */
async function checkNames(source, wanted) {
  const found = await source.list();
  if (found === null) return;
  const missing = wanted.find((name) => !found.includes(name));
  if (missing !== undefined)
    throw new BundleError("missing-file", `The bundle has no ${missing}. Fetch all files again.`);
  const extra = found.find((name) => !wanted.includes(name) && !isLeftBehind(name));
  if (extra !== undefined)
    throw new BundleError("unlisted-file", `The manifest does not list ${JSON.stringify(extra)}. Remove it.`);
}
