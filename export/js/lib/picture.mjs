import { ImageError } from "./errors.mjs";

/** Largest picture file that is read, in bytes. */
export const MAX_FILE = 256 * 2 ** 20;

const MAX_PIXELS = 64_000_000;
// Longest side over shortest: the shorter one is resized to the encoder's input, and the longer grows with it.
const MAX_ASPECT = 5_000;
const FORMATS = { jpeg: /^\xff\xd8\xff/, png: /^\x89PNG\r\n/, webp: /^RIFF....WEBP/s, bmp: /^BM/ };
const PYTHONS = { DICOM: /^.{128}DICM/s, TIFF: /^(II[*+]\0|MM\0[*+])/ };

/** Bytes by which every format is known. */
export const HEAD = 132;

/**
 * Know a picture by its content.
 *
 * @param {Uint8Array} bytes the whole file
 * @returns {string} `jpeg`, `png`, `webp` or `bmp`
 */
export function formatOf(bytes) {
  if (bytes.length === 0) throw new ImageError("The file is empty.");
  const start = String.fromCharCode(...bytes.subarray(0, HEAD));
  const [other] = Object.entries(PYTHONS).find(([, form]) => form.test(start)) ?? [];
  if (other !== undefined)
    throw new ImageError(`This is ${other}, which only Python's fedclip-edge reads: save it as PNG, or use that.`);
  const found = Object.entries(FORMATS).find(([, form]) => form.test(start));
  if (found === undefined) throw new ImageError("This is not a JPEG, PNG, WebP or BMP picture.");
  return found[0];
}

/**
 * @param {Uint8Array} bytes of a picture, at least its first `HEAD`
 * @returns {boolean} whether its samples have 16 bits, of which decoders here give the high byte
 */
export const isWide = (bytes) => formatOf(bytes) === "png" && bytes[24] === 16;

/** @param {number} width pixels @param {number} height pixels */
export function checkSize(width, height) {
  if (!(width > 0 && height > 0)) throw new ImageError(`The picture says that it is ${width} x ${height} pixels.`);
  if (width * height > MAX_PIXELS)
    throw new ImageError(`${width} x ${height} pixels is more than the limit of ${MAX_PIXELS / 1e6} million.`);
  if (Math.max(width, height) > MAX_ASPECT * Math.min(width, height))
    throw new ImageError(`${width} x ${height} pixels is thinner than 1 to ${MAX_ASPECT}; crop it.`);
}
