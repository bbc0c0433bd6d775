import { ImageError } from "../lib/errors.mjs";
import { checkSize } from "../lib/picture.mjs";

/**
 * Decode a BMP of 24 or 32 bits, uncompressed (the fourth byte is unused, as Pillow reads it). sharp reads no BMP.
 *
 * @param {Uint8Array} bytes the whole file
 * @returns {import("../lib/edge-classifier.mjs").RgbImage} upright RGB
 * @throws {ImageError} for another kind of BMP, or one that is cut off or outside the limits
 */
export function decodeBmp(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 54) throw new ImageError("The picture is cut off.");
  const [start, width, stored] = [view.getUint32(10, true), view.getInt32(18, true), view.getInt32(22, true)];
  const depth = view.getUint16(28, true) / 8;
  if (view.getUint32(14, true) < 40 || (depth !== 3 && depth !== 4) || view.getUint32(30, true) !== 0)
    throw new ImageError("Only uncompressed BMP pictures of 24 or 32 bits are supported: save it as PNG.");
  const height = Math.abs(stored);
  checkSize(width, height);
  const stride = Math.ceil((width * depth) / 4) * 4;
  if (start + stride * height > bytes.length) throw new ImageError("The picture is cut off.");
  const data = new Uint8Array(width * height * 3);
  for (let row = 0, to = 0; row < height; row += 1) {
    let from = start + stride * (stored > 0 ? height - 1 - row : row);
    for (let column = 0; column < width; column += 1, from += depth, to += 3)
      [data[to], data[to + 1], data[to + 2]] = [bytes[from + 2], bytes[from + 1], bytes[from]];
  }
  return { data, height, width };
}
