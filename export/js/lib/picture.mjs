import { ImageError } from "./errors.mjs";

/** Largest picture file that is read, in bytes. */
export const MAX_FILE = 256 * 2 ** 20;

const MAX_PIXELS = 64_000_000;
// Longest side over shortest: the shorter one is resized to the encoder's input, and the longer grows with it.
const MAX_ASPECT = 5_000;
const FORMATS = { jpeg: /^\xff\xd8\xff/, png: /^\x89PNG\r\n/, webp: /^RIFF....WEBP/s, bmp: /^BM/ };

/**
 * Know a picture by its content.
 *
 * @param {Uint8Array} bytes the whole file
 * @returns {string} `jpeg`, `png`, `webp` or `bmp`
 */
export function formatOf(bytes) {
  if (bytes.length === 0) throw new ImageError("The file is empty.");
  const start = String.fromCharCode(...bytes.subarray(0, 12));
  const found = Object.entries(FORMATS).find(([, form]) => form.test(start));
  if (found === undefined) throw new ImageError("This is not a JPEG, PNG, WebP or BMP picture.");
  return found[0];
}

/** @param {number} width pixels @param {number} height pixels */
export function checkSize(width, height) {
  if (!(width > 0 && height > 0)) throw new ImageError(`The picture says that it is ${width} x ${height} pixels.`);
  if (width * height > MAX_PIXELS)
    throw new ImageError(`${width} x ${height} pixels is more than the limit of ${MAX_PIXELS / 1e6} million.`);
  if (Math.max(width, height) > MAX_ASPECT * Math.min(width, height))
    throw new ImageError(`${width} x ${height} pixels is thinner than 1 to ${MAX_ASPECT}; crop it.`);
}
