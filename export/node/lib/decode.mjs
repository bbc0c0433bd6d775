import { readFile, stat } from "node:fs/promises";
import sharp from "sharp";
import { decodeBmp } from "./bmp.mjs";
import { ImageError } from "./errors.mjs";
import { inspect, MAX_FILE, MAX_PIXELS, overWhite } from "./picture.mjs";

/**
 * Read a picture file as upright RGB: EXIF orientation applied, transparency laid over white, of 16-bit samples the
 * high byte, of an animation the first frame, colour profiles not applied.
 *
 * @param {string} path a JPEG, PNG, WebP or BMP file, known by its content
 * @param {number} [maxPixels] largest width x height
 * @returns {Promise<import("./classifier.mjs").RgbImage>} decoded
 * @throws {ImageError} when the file is missing, not such a picture, damaged, or outside the limits
 */
export async function decodeFile(path, maxPixels = MAX_PIXELS) {
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw new ImageError("it is a folder; give its files");
    if (found.size > MAX_FILE) throw new ImageError(`The file has ${found.size} bytes; at most ${MAX_FILE} are read.`);
    return await decodeBytes(await readFile(path), maxPixels);
  } catch (error) {
    throw new ImageError(`${path}: ${error.message}`);
  }
}

/**
 * Decode a picture's bytes as `decodeFile` does.
 *
 * @param {Uint8Array} bytes the whole file
 * @param {number} [maxPixels] largest width x height
 * @returns {Promise<import("./classifier.mjs").RgbImage>} decoded
 * @throws {ImageError} when it is not such a picture, damaged, or outside the limits
 */
export async function decodeBytes(bytes, maxPixels = MAX_PIXELS) {
  const { format } = inspect(bytes, maxPixels);
  if (format === "bmp") return decodeBmp(bytes);
  try {
    return await decodeBySharp(bytes, maxPixels);
  } catch (error) {
    throw new ImageError(`The picture cannot be decoded: ${error.message}`);
  }
}

async function decodeBySharp(bytes, maxPixels) {
  const options = { autoOrient: true, failOn: "error", ignoreIcc: true, limitInputPixels: maxPixels };
  const { space } = await sharp(bytes, options).metadata();
  const target = space === "cmyk" ? "cmyk" : "srgb";
  const pipeline = sharp(bytes, options).pipelineColourspace(target).toColourspace(target);
  const { data, info } = await pipeline.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
  return { data: toRgb(data, info.channels, target), height: info.height, width: info.width };
}

function toRgb(data, channels, space) {
  if (space === "cmyk") return fromCmyk(data);
  if (channels === 4) return overWhite(data);
  if (channels === 3) return new Uint8Array(data);
  throw new Error(`${channels} channels`);
}

// As Pillow: every ink takes its share of what black leaves.
function fromCmyk(data) {
  const rgb = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    const light = 255 - data[from + 3];
    for (let channel = 0; channel < 3; channel += 1) {
      const product = data[from + channel] * light + 128;
      rgb[to + channel] = Math.max(0, light - (((product >> 8) + product) >> 8));
    }
  }
  return rgb;
}
