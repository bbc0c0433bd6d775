import { BundleError } from "./errors.mjs";
import { verifySignature } from "./keys.mjs";
import { parseManifest } from "./manifest.mjs";

/** Largest manifest that is read, in bytes. */
export const MAX_MANIFEST = 2 ** 20;

const SIGNATURE_SIZE = 64;

/**
 * Where a bundle's files come from: a folder, a web server, a device's storage.
 *
 * @typedef {object} Source
 * @property {(name: string, limit: number) => Promise<Uint8Array<ArrayBuffer> | null>} read the file's first
 *   `limit` + 1 bytes, so that more than `limit` are noticed; null when there is no such file. Whatever is no regular
 *   file is refused with `not-regular`
 * @property {() => Promise<string[] | null>} list what the folder holds, null where that cannot be known
 */

/**
 * What a device is and trusts.
 *
 * @typedef {object} Trust
 * @property {readonly import("./keys.mjs").PublicKey[]} keys a bundle has to be signed by one of them
 * @property {string} product what this device serves
 * @property {boolean} [allowUnsigned] whether, without any key, the origin of a bundle may go unchecked
 */

/**
 * A manifest whose signature was verified, and nothing else yet.
 *
 * @typedef {object} Signed
 * @property {import("./manifest.mjs").Manifest} manifest what it says
 * @property {string | null} keyId id of the key that signed it, null when no key is held
 * @property {Uint8Array<ArrayBuffer>} raw manifest.json
 * @property {Uint8Array<ArrayBuffer> | null} signature manifest.sig
 */

/**
 * Read a manifest; its signature is verified over the raw bytes before they are parsed.
 *
 * @param {Source} source where it is
 * @param {Pick<Trust, "keys" | "allowUnsigned">} trust keys of this device
 */
export async function readManifest(source, { keys, allowUnsigned = false }) {
  const raw = await source.read("manifest.json", MAX_MANIFEST);
  if (raw === null) throw new BundleError("missing-file", "The bundle has no manifest.json. Fetch all files again.");
  if (raw.length > MAX_MANIFEST)
    throw new BundleError("too-large", `manifest.json has more than ${MAX_MANIFEST} bytes. Fetch it again.`);
  const signature = await source.read("manifest.sig", SIGNATURE_SIZE);
  if (signature !== null && signature.length !== SIGNATURE_SIZE)
    throw new BundleError("signature", `manifest.sig does not have ${SIGNATURE_SIZE} bytes. Fetch it again.`);
  if (keys.length === 0 && !allowUnsigned)
    throw new BundleError(
      "unsigned",
      "No key is held here, so nobody knows who made this bundle: give the key of its maker, or allow unsigned ones.",
    );
  const keyId = keys.length === 0 ? null : await verifySignature(raw, signature, keys);
  return { manifest: parseManifest(raw), keyId, raw, signature };
}
