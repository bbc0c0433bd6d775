import { sha256 } from "./bytes.mjs";
import { BundleError } from "./errors.mjs";
import { guardGraph } from "./graph-guard.mjs";
import { verifySignature } from "./keys.mjs";
import { entryOf, parseManifest } from "./manifest.mjs";
import { checkPolicy, encoderDigest } from "./policy.mjs";

export { BundleError, REASONS } from "./errors.mjs";
export { loadPublicKey } from "./keys.mjs";

/** Largest manifest that is read, in bytes. */
export const MAX_MANIFEST = 2 ** 20;

const SIGNATURE_SIZE = 64;
const LEFT_BEHIND = new Set([
  ".ds_store",
  "thumbs.db",
  "desktop.ini",
  "icon\r",
  "__macosx",
  "@eadir",
  "$recycle.bin",
  "lost+found",
]);
const LIMITS = { head: 2 ** 26, preprocess: 2 ** 20 };

/**
 * Where a bundle's files come from: a folder, a web server, a cache.
 *
 * @typedef {object} Source
 * @property {(name: string, limit: number, exact?: boolean) => Promise<Uint8Array | null>} read the file's bytes, null
 *   when there is none. Refuses a file above `limit` bytes with `too-large` (with `size` when `exact`), and whatever is
 *   not a regular file with `not-regular`
 * @property {() => Promise<string[] | null>} names what the folder holds, null where that cannot be known
 * @property {(entry: import("./manifest.mjs").FileEntry) => Promise<{path: string, sha256: string}>} [digest]
 *   hash of an encoder's data, which stays where it is; without it the data is read into memory
 */

/**
 * What a device is and trusts.
 *
 * @typedef {object} Trust
 * @property {readonly import("./keys.mjs").PublicKey[]} [keys] with any, a signature by one of them is required
 * @property {string} [product] what this device serves
 */

/**
 * A bundle whose every byte was checked.
 *
 * @typedef {object} Bundle
 * @property {import("./manifest.mjs").Manifest} manifest what it says
 * @property {string | null} keyId id of the key that signed it, null when no key is held
 * @property {Uint8Array} raw manifest.json
 * @property {Uint8Array | null} signature manifest.sig
 * @property {Uint8Array} head head.onnx, the very bytes that were hashed
 * @property {Uint8Array | null} preprocess preprocess.onnx, null in an update
 * @property {{model: string | Uint8Array, data: {name: string, bytes: Uint8Array} | null} | null} encoder path or bytes
 *   of encoder.onnx (with its data, when they are bytes), null in an update
 * @property {import("./policy.mjs").Installed} installed what a device that runs it has installed
 */

/**
 * A manifest whose signature was verified, and nothing else yet.
 *
 * @typedef {Pick<Bundle, "manifest" | "keyId" | "raw" | "signature">} Signed
 */

/**
 * Verify a bundle, or an update against what is installed. Nothing is parsed before its signature is verified, and
 * nothing is handed on before its hash is.
 *
 * @param {Source} source where the files are
 * @param {Trust} [trust] keys and product of this device
 * @param {object} [here] circumstances
 * @param {import("./policy.mjs").Installed | null} [here.installed] what the device runs now
 * @param {string | null} [here.runtime] onnxruntime's version, for example "1.30.0"
 * @param {number | null} [here.now] UTC seconds; null leaves times unchecked (what is installed goes on serving)
 * @returns {Promise<Bundle>} the verified bundle
 * @throws {BundleError} with the reason of the first rule that it breaks
 */
export async function openBundle(source, trust = {}, here = {}) {
  const { keys = [], product = "fedclip" } = trust;
  const { installed = null, runtime = null, now = Date.now() / 1000 } = here;
  const signed = await readManifest(source, keys);
  const { manifest } = signed;
  await checkPolicy(manifest, { product, installed, runtime, now });
  const carried = manifest.entries.filter((entry) => !entry.installed);
  const head = await readHead(source, signed, carried);
  const base = manifest.isUpdate ? { preprocess: null, encoder: null } : await readBase(source, manifest);
  guardGraph("head", head, manifest);
  return asBundle(signed, head, base);
}

/**
 * Read a manifest; its signature is verified over the raw bytes before they are parsed.
 *
 * @param {Source} source where it is
 * @param {readonly import("./keys.mjs").PublicKey[]} keys with any, a signature by one of them is required
 * @returns {Promise<Signed>} the manifest, and who signed it
 * @throws {BundleError} when there is none, or its signature or form is wrong
 */
export async function readManifest(source, keys) {
  const raw = await required(source, "manifest.json", MAX_MANIFEST);
  const signature = await readSignature(source);
  const keyId = await verifySignature(raw, signature, keys);
  return { manifest: parseManifest(raw), keyId, raw, signature };
}

/**
 * Check an installed round, though not the encoder that it shares with others.
 *
 * @param {Source} source where manifest and head lie
 * @param {Signed} signed from `readManifest`
 * @returns {Promise<Uint8Array>} the head
 * @throws {BundleError} with the reason of the first rule that it breaks
 */
export async function readRoundHead(source, signed) {
  const head = await readHead(source, signed, [entryOf(signed.manifest, "head")]);
  guardGraph("head", head, signed.manifest);
  return head;
}

/**
 * Check preprocessing and encoder.
 *
 * @param {Source} source where they lie
 * @param {import("./manifest.mjs").Manifest} manifest lists them
 * @returns {Promise<Pick<Bundle, "preprocess" | "encoder">>} what was hashed
 * @throws {BundleError} with the reason of the first rule that they break
 */
export async function readBase(source, manifest) {
  const preprocess = await readChecked(source, entryOf(manifest, "preprocess"));
  const model = await readChecked(source, entryOf(manifest, "encoder"));
  guardGraph("encoder", model, manifest);
  const encoder = await withData(source, manifest, model);
  guardGraph("preprocess", preprocess, manifest);
  return { preprocess, encoder };
}

/**
 * @param {Signed} signed from `readManifest`
 * @param {Uint8Array} head checked
 * @param {Pick<Bundle, "preprocess" | "encoder">} base from `readBase`, or nulls
 * @returns {Promise<Bundle>} all of it
 */
export async function asBundle(signed, head, base) {
  return Object.freeze({ ...signed, head, ...base, installed: await asInstalled(signed.manifest) });
}

async function readHead(source, { manifest, signature }, carried) {
  const names = ["manifest.json", ...(signature ? ["manifest.sig"] : []), ...carried.map((entry) => entry.name)];
  await checkNames(source, names);
  return readChecked(source, entryOf(manifest, "head"));
}

async function asInstalled(manifest) {
  return Object.freeze({
    sequence: manifest.sequence,
    encoder: await encoderDigest(manifest),
    preprocess: entryOf(manifest, "preprocess").sha256,
    feature_dim: manifest.feature_dim,
  });
}

/**
 * @param {string} name of a file or a folder
 * @returns {boolean} whether operating systems put such beside the files of their users; it is never opened
 */
export function isLeftBehind(name) {
  return name.startsWith("._") || LEFT_BEHIND.has(name.toLowerCase());
}

async function required(source, name, limit, exact = false) {
  const bytes = await source.read(name, limit, exact);
  if (bytes === null) throw new BundleError("missing-file", `The bundle has no ${name}. Fetch all of its files again.`);
  return bytes;
}

async function readSignature(source) {
  const signature = await source.read("manifest.sig", MAX_MANIFEST);
  if (signature === null || signature.length === SIGNATURE_SIZE) return signature;
  throw new BundleError(
    "signature",
    `manifest.sig has ${signature.length} bytes; a signature has ${SIGNATURE_SIZE}. Fetch it again.`,
  );
}

async function checkNames(source, wanted) {
  const found = await source.names();
  if (found === null) return;
  const missing = wanted.find((name) => !found.includes(name));
  if (missing !== undefined)
    throw new BundleError("missing-file", `The bundle has no ${missing}. Fetch all of its files again.`);
  const extra = found.find((name) => !wanted.includes(name) && !isLeftBehind(name));
  if (extra !== undefined) {
    throw new BundleError(
      "unlisted-file",
      `The folder holds ${JSON.stringify(extra)}, which the manifest does not list. Remove it.`,
    );
  }
}

async function withData(source, manifest, model) {
  const entry = entryOf(manifest, "encoder-data");
  if (entry === undefined) return { model, data: null };
  if (!source.digest) return { model, data: { name: entry.name, bytes: await readChecked(source, entry) } };
  checkHash(entry, (await source.digest(entry)).sha256);
  const graph = await source.digest(entryOf(manifest, "encoder"));
  checkHash(entryOf(manifest, "encoder"), graph.sha256);
  return { model: graph.path, data: null };
}

async function readChecked(source, entry) {
  if (entry.size > (LIMITS[entry.role] ?? entry.size)) {
    throw new BundleError(
      "too-large",
      `${entry.name} is listed with ${entry.size} bytes; a ${entry.role} has at most ${LIMITS[entry.role]}.`,
    );
  }
  const bytes = await required(source, entry.name, entry.size, true);
  if (bytes.length !== entry.size) {
    throw new BundleError(
      "size",
      `${entry.name} has ${bytes.length} bytes where the manifest says ${entry.size}. Fetch it again.`,
    );
  }
  checkHash(entry, await sha256(bytes));
  return bytes;
}

function checkHash(entry, found) {
  if (found === entry.sha256) return;
  throw new BundleError(
    "hash",
    `${entry.name} is not the file that the manifest names (its SHA-256 differs). Fetch it again.`,
  );
}
