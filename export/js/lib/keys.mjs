import { fromBase64, sha256, subtle, toBase64 } from "./bytes.mjs";
import { BundleError } from "./errors.mjs";

const PEM = /-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----/;
const ED25519 = { name: "Ed25519" };
const DOMAIN = new TextEncoder().encode("fedclip-bundle-v1\0");

/**
 * A public key that the device trusts.
 *
 * @typedef {object} PublicKey
 * @property {string} id first 16 hex digits of the SHA-256 of the raw 32-byte key
 * @property {CryptoKey} key what WebCrypto verifies with
 * @property {string} raw base64 of the 32 bytes
 */

/** @param {string} pem text of a PEM file (SubjectPublicKeyInfo) @throws {TypeError} when there is none */
export async function loadPublicKey(pem) {
  const der = fromBase64(PEM.exec(pem)?.[1] ?? "");
  try {
    const key = await subtle().importKey("spki", der ?? new Uint8Array(), ED25519, true, ["verify"]);
    return await describe(key);
  } catch (error) {
    throw new TypeError(
      "This is not an Ed25519 public key in PEM: give the .pub file that `fedclip-export keygen` wrote.",
      { cause: error },
    );
  }
}

/** @param {string} raw base64 of a raw Ed25519 key @throws {TypeError} when it is none */
export async function importPublicKey(raw) {
  const bytes = fromBase64(raw);
  if (bytes?.length !== 32) throw new TypeError("This is not a raw Ed25519 public key of 32 bytes in base64.");
  return describe(await subtle().importKey("raw", bytes, ED25519, true, ["verify"]));
}

/** @param {PublicKey} publicKey any @returns {Promise<string>} the key alone as PEM, always spelt the same */
export async function toPem({ key }) {
  const body = toBase64(new Uint8Array(await subtle().exportKey("spki", key)));
  return `-----BEGIN PUBLIC KEY-----\n${body}\n-----END PUBLIC KEY-----\n`;
}

/**
 * Verify a manifest's signature, before anything in it is parsed.
 *
 * @param {Uint8Array} manifest raw bytes of manifest.json
 * @param {Uint8Array<ArrayBuffer> | null} signature raw bytes of manifest.sig, null when there is none
 * @param {readonly PublicKey[]} keys what this device trusts, at least one
 * @throws {BundleError} `unsigned` or `signature`
 */
export async function verifySignature(manifest, signature, keys) {
  const held = keys.map(({ id }) => id).join(", ");
  if (signature === null)
    throw new BundleError("unsigned", `The bundle has no manifest.sig, and only bundles signed by ${held} count here.`);
  const message = new Uint8Array([...DOMAIN, ...manifest]);
  for (const { id, key } of keys) if (await subtle().verify(ED25519, key, signature, message)) return id;
  throw new BundleError(
    "signature",
    `The signature is not by a key that this device holds (${held}), or the manifest was changed after signing.`,
  );
}

/** @param {CryptoKey} key an extractable one @returns {Promise<PublicKey>} with its id */
async function describe(key) {
  const raw = new Uint8Array(await subtle().exportKey("raw", key));
  return { id: (await sha256(raw)).slice(0, 16), key, raw: toBase64(raw) };
}
