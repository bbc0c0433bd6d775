import { ImageError } from "../lib/errors.mjs";
import { inspect, MAX_FILE } from "../lib/picture.mjs";

const TILE = 2048;
const OPTIONS = { imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none" };

/**
 * Decode a picture to upright RGB over white, without applying colour profiles.
 *
 * @param {Blob} blob a JPEG, PNG, WebP or BMP file
 * @returns {Promise<import("../lib/classifier.mjs").RgbImage>} decoded
 * @throws {ImageError} when it is not such a picture, damaged, or outside the limits
 */
export async function decodeBlob(blob) {
  if (blob.size > MAX_FILE) throw new ImageError(`The file has ${blob.size} bytes; at most ${MAX_FILE} are read.`);
  inspect(new Uint8Array(await blob.arrayBuffer()));
  const bitmap = await createImageBitmap(blob, OPTIONS).catch((error) => {
    throw new ImageError(`The picture cannot be decoded: it may be damaged. (${error.message})`);
  });
  try {
    return readPixels(bitmap);
  } finally {
    bitmap.close();
  }
}

// In tiles, because phones limit the area of a canvas.
function readPixels(bitmap) {
  const { width, height } = bitmap;
  const data = new Uint8Array(width * height * 3);
  const canvas = document.createElement("canvas");
  canvas.width = Math.min(width, TILE);
  canvas.height = Math.min(height, TILE);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.fillStyle = "#fff";
  for (let top = 0; top < height; top += TILE) {
    for (let left = 0; left < width; left += TILE) {
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(bitmap, -left, -top);
      const [columns, rows] = [Math.min(TILE, width - left), Math.min(TILE, height - top)];
      copyTile(context.getImageData(0, 0, columns, rows).data, columns, data, 3 * (top * width + left), 3 * width);
    }
  }
  return { data, height, width };
}

function copyTile(rgba, columns, data, start, stride) {
  for (let from = 0, row = 0; from < rgba.length; row += 1) {
    let to = start + row * stride;
    for (const end = from + 4 * columns; from < end; from += 4, to += 3) {
      data[to] = rgba[from];
      data[to + 1] = rgba[from + 1];
      data[to + 2] = rgba[from + 2];
    }
  }
}
