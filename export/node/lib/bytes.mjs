const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/**
 * Decode strict base64 (standard alphabet, padded, no spaces, no stray bits).
 *
 * @param {string} text base64
 * @returns {Uint8Array | null} the bytes, or null when the text is not strict base64
 */
export function fromBase64(text) {
  if (!BASE64.test(text)) return null;
  const binary = atob(text);
  if (btoa(binary) !== text) return null;
  return Uint8Array.from(binary, (char) => char.charCodeAt(0));
}

/**
 * Read little-endian float32 numbers, on a machine of either byte order.
 *
 * @param {Uint8Array} bytes four for each number
 * @returns {Float32Array} the numbers
 */
export function toFloats(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.byteLength / 4 }, (_, at) => view.getFloat32(4 * at, true));
}

/**
 * SHA-256 by the host's WebCrypto.
 *
 * @param {Uint8Array} bytes what to hash
 * @returns {Promise<string>} 64 lower-case hex digits
 */
export async function sha256(bytes) {
  return toHex(new Uint8Array(await subtle().digest("SHA-256", bytes)));
}

/**
 * @param {Uint8Array} bytes any bytes
 * @returns {string} lower-case hex digits, two for each byte
 */
function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * The host's WebCrypto, which browsers offer only to pages of https:// or localhost.
 *
 * @returns {SubtleCrypto} `crypto.subtle`
 * @throws {Error} when the host does not offer it
 */
export function subtle() {
  const offered = globalThis.crypto?.subtle;
  if (!offered)
    throw new Error("Hashes and signatures cannot be checked here: open this page by https or on localhost.");
  return offered;
}
