/** @param {string} text base64 @returns {Uint8Array<ArrayBuffer> | null} the bytes, null when this is not base64 */
export function fromBase64(text) {
  try {
    return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  } catch {
    return null;
  }
}

/** @param {Uint8Array} bytes any */
export const toBase64 = (bytes) => btoa(String.fromCharCode(...bytes));

/**
 * Read little-endian float32 numbers, on a machine of either byte order.
 *
 * @param {Uint8Array} bytes four for each number
 */
export function toFloats(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.byteLength / 4 }, (_, at) => view.getFloat32(4 * at, true));
}

/**
 * @param {Uint8Array<ArrayBuffer>} bytes what to hash
 * @returns {Promise<string>} SHA-256 as 64 lower-case hex digits
 */
export async function sha256(bytes) {
  const digest = new Uint8Array(await subtle().digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The host's WebCrypto, which browsers offer only to pages of https:// or localhost. */
export function subtle() {
  if (globalThis.crypto?.subtle) return globalThis.crypto.subtle;
  throw new Error("Hashes and signatures cannot be checked here: open this page by https or on localhost.");
}
