import { ImageError } from "../lib/errors.mjs";
import { checkSize, HEAD, isWide, MAX_FILE } from "../lib/picture.mjs";

const TILE = 2048;
const OPTIONS = /** @type {const} */ ({
  imageOrientation: "from-image",
  premultiplyAlpha: "none",
  colorSpaceConversion: "none",
});

/**
 * Decode a picture to upright RGB over white, without applying colour profiles.
 *
 * @param {Blob} blob a JPEG, PNG, WebP or BMP file
 */
export async function decodeBlob(blob) {
  if (blob.size > MAX_FILE) throw new ImageError(`The file has ${blob.size} bytes; at most ${MAX_FILE} are read.`);
  const wide = isWide(new Uint8Array(await blob.slice(0, HEAD).arrayBuffer()));
  const bitmap = await createImageBitmap(blob, OPTIONS).catch((error) => {
    throw new ImageError(`The picture cannot be decoded: it may be damaged. (${error.message})`);
  });
  try {
    checkSize(bitmap.width, bitmap.height);
    return { ...readPixels(bitmap), wide };
  } finally {
    bitmap.close();
  }
}

/** In tiles, because phones limit the area of a canvas. @param {ImageBitmap} bitmap upright */
function readPixels(bitmap) {
  const { width, height } = bitmap;
  const data = new Uint8Array(width * height * 3);
  const canvas = new OffscreenCanvas(Math.min(width, TILE), Math.min(height, TILE));
  const context = /** @type {OffscreenCanvasRenderingContext2D} */ (
    canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" })
  );
  context.fillStyle = "#fff";
  for (let top = 0; top < height; top += TILE)
    for (let left = 0; left < width; left += TILE) {
      context.fillRect(0, 0, canvas.width, canvas.height);
      context.drawImage(bitmap, -left, -top);
      const [columns, rows] = [Math.min(TILE, width - left), Math.min(TILE, height - top)];
      const rgba = context.getImageData(0, 0, columns, rows).data;
      for (let at = 0; at < rows * columns; at += 1) {
        const to = 3 * ((top + Math.floor(at / columns)) * width + left + (at % columns));
        for (let channel = 0; channel < 3; channel += 1) data[to + channel] = rgba[4 * at + channel];
      }
    }
  return { data, height, width };
}
