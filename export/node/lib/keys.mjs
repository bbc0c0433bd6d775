import { fromBase64, sha256, subtle } from "./bytes.mjs";
import { BundleError } from "./errors.mjs";

const PEM =
  /^[^]*?-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----(?![^]*-----BEGIN PUBLIC KEY-----)/;
const SPKI_ED25519 = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const DOMAIN = new TextEncoder().encode("fedclip-bundle-v1\0");

/**
 * A public key that the device trusts.
 *
 * @typedef {object} PublicKey
 * @property {string} id first 16 hex digits of the SHA-256 of the raw 32-byte key
 * @property {CryptoKey} key what WebCrypto verifies with
 * @property {string} pem the key alone, always spelt the same
 */

/**
 * Read an Ed25519 public key.
 *
 * @param {string} pem a PEM file's text (SubjectPublicKeyInfo)
 * @returns {Promise<PublicKey>} the key with its id
 * @throws {TypeError} when the text is not an Ed25519 public key
 */
export async function loadPublicKey(pem) {
  const der = fromBase64(PEM.exec(pem)?.[1].replace(/\s+/g, "") ?? "?");
  if (der?.length !== SPKI_ED25519.length + 32 || SPKI_ED25519.some((byte, at) => der[at] !== byte)) {
    throw new TypeError(
      "This is not an Ed25519 public key in PEM: give the .pub file that `fedclip-export keygen` wrote.",
    );
  }
  const raw = der.slice(SPKI_ED25519.length);
  const body = btoa(String.fromCharCode(...der));
  const alone = `-----BEGIN PUBLIC KEY-----\n${body}\n-----END PUBLIC KEY-----\n`;
  const key = await subtle().importKey("raw", raw, { name: "Ed25519" }, false, ["verify"]);
  return { id: (await sha256(raw)).slice(0, 16), key, pem: alone };
}

/**
 * Verify a manifest's signature, before anything in it is parsed.
 *
 * @param {Uint8Array} manifest raw bytes of manifest.json
 * @param {Uint8Array | null} signature raw bytes of manifest.sig, null when there is none
 * @param {readonly PublicKey[]} keys what this device trusts; with none, nothing is checked
 * @returns {Promise<string | null>} id of the key that signed, null when no key is held
 * @throws {BundleError} `unsigned` or `signature`
 */
export async function verifySignature(manifest, signature, keys) {
  if (keys.length === 0) return null;
  const held = keys.map((key) => key.id).join(", ");
  if (signature === null) {
    throw new BundleError(
      "unsigned",
      `The bundle has no manifest.sig, and this device accepts only bundles signed by ${held}.`,
    );
  }
  const message = new Uint8Array(DOMAIN.length + manifest.length);
  message.set(DOMAIN);
  message.set(manifest, DOMAIN.length);
  for (const { id, key } of keys) {
    if (await subtle().verify({ name: "Ed25519" }, key, signature, message)) return id;
  }
  throw new BundleError(
    "signature",
    `The signature is not by a key that this device holds (${held}), or the manifest was changed after signing.`,
  );
}
