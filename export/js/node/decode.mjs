import { readFile, stat } from "node:fs/promises";
import sharp from "sharp";
import { asideOf, ImageError } from "../lib/errors.mjs";
import { checkSize, formatOf, isWide, MAX_FILE } from "../lib/picture.mjs";

/** @typedef {import("../lib/edge-classifier.mjs").RgbImage} RgbImage */

/**
 * Read a picture file as upright RGB: EXIF orientation applied, transparency laid over white, of 16-bit samples the
 * high byte, of an animation the first frame, colour profiles not applied.
 *
 * @param {string} path a JPEG, PNG, WebP or BMP file, known by its content
 * @throws {ImageError} when the file is missing, not such a picture, damaged, or outside the limits
 */
export async function decodeFile(path) {
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw new ImageError("it is a folder; give its files");
    if (found.size > MAX_FILE) throw new ImageError(`The file has ${found.size} bytes; at most ${MAX_FILE} are read.`);
    return await decodeBytes(await readFile(path));
  } catch (error) {
    throw new ImageError(`${path}: ${/** @type {Error} */ (error).message}`);
  }
}

/**
 * Decode a picture's bytes as `decodeFile` does.
 *
 * @param {Uint8Array} bytes the whole file
 * @throws {ImageError} when it is not such a picture, damaged, or outside the limits
 */
export async function decodeBytes(bytes) {
  if (formatOf(bytes) === "bmp") return decodeBmp(bytes);
  try {
    const failOn = /** @type {const} */ ("error");
    const options = { autoOrient: true, failOn, ignoreIcc: true, limitInputPixels: false };
    const { space, width, height } = await sharp(bytes, options).metadata();
    checkSize(width, height);
    const target = space === "cmyk" ? "cmyk" : "srgb";
    const pipeline = sharp(bytes, options).pipelineColourspace(target).toColourspace(target);
    const { data, info } = await pipeline.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
    const rgb = toRgb(data, info.channels, target);
    return { data: rgb, height: info.height, width: info.width, wide: isWide(bytes) };
  } catch (error) {
    if (error instanceof ImageError) throw error;
    throw new ImageError(`The picture is cut off or damaged: ${asideOf(error).split("\n")[0]}.`);
  }
}

/** @param {Buffer} data pixels @param {number} channels of each @param {string} space theirs */
function toRgb(data, channels, space) {
  if (channels === 3) return new Uint8Array(data);
  const rgb = new Uint8Array((data.length / 4) * 3);
  const mix = space === "cmyk" ? ofInks : overWhite;
  for (let from = 0, to = 0; from < data.length; from += 4)
    for (let channel = 0; channel < 3; channel += 1, to += 1) rgb[to] = mix(data[from + channel], data[from + 3]);
  return rgb;
}

/** As Pillow's `alpha_composite` rounds it. @param {number} colour 0 to 255 @param {number} alpha 0 to 255 */
function overWhite(colour, alpha) {
  const share = alpha * 128;
  const sum = colour * share + 255 * (32640 - share) + 16384;
  return ((sum >> 8) + sum) >> 15;
}

/** As Pillow: every ink takes its share of what black leaves. @param {number} ink @param {number} black */
function ofInks(ink, black) {
  const light = 255 - black;
  const product = ink * light + 128;
  return Math.max(0, light - (((product >> 8) + product) >> 8));
}

/**
 * Decode a BMP of 24 or 32 bits, uncompressed (the fourth byte is unused, as Pillow reads it). sharp reads no BMP.
 *
 * @param {Uint8Array} bytes the whole file
 */
function decodeBmp(bytes) {
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
