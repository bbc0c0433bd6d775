import { ImageError } from "./errors.mjs";

/** Largest picture that is decoded, in pixels. */
export const MAX_PIXELS = 64_000_000;

/** Longest side over shortest: the shorter one is resized to the encoder's input, and the longer grows with it. */
const MAX_ASPECT = 5_000;

/** Largest picture file that is read, in bytes. */
export const MAX_FILE = 256 * 2 ** 20;

const JPEG_STANDALONE = [0x01, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7];
const JPEG_NO_FRAME = [0xc4, 0xc8, 0xcc];

/**
 * Know a picture by its content and check its size before anything decodes it.
 *
 * @param {Uint8Array} bytes the whole file
 * @param {number} [maxPixels] largest width x height
 * @returns {{format: "jpeg"|"png"|"webp"|"bmp", width: number, height: number}} as stored, before EXIF turns it
 * @throws {ImageError} when it is none of these formats, damaged in its header, or outside the limits
 */
export function inspect(bytes, maxPixels = MAX_PIXELS) {
  if (bytes.length === 0) throw new ImageError("The file is empty.");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const format = Object.keys(FORMATS).find((name) => FORMATS[name].is(bytes));
  if (format === undefined) throw new ImageError("This is not a JPEG, PNG, WebP or BMP picture.");
  const [width, height] = sizeOf(format, view);
  if (!(width > 0 && height > 0)) throw new ImageError(`The picture says that it is ${width} x ${height} pixels.`);
  if (width * height > maxPixels) {
    throw new ImageError(
      `${width} x ${height} pixels is more than the limit of ${maxPixels / 1e6} million; make it smaller.`,
    );
  }
  if (Math.max(width, height) > MAX_ASPECT * Math.min(width, height)) {
    throw new ImageError(`${width} x ${height} pixels is thinner than 1 to ${MAX_ASPECT}; crop it.`);
  }
  return { format, width, height };
}

/**
 * Lay RGBA over white, as Pillow's `alpha_composite` rounds it.
 *
 * @param {Uint8Array | Uint8ClampedArray} rgba four bytes a pixel, colours not multiplied by alpha
 * @returns {Uint8Array} three bytes a pixel
 */
export function overWhite(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    const share = rgba[from + 3] * 128;
    for (let channel = 0; channel < 3; channel += 1) {
      const sum = rgba[from + channel] * share + 255 * (32640 - share) + 16384;
      rgb[to + channel] = ((sum >> 8) + sum) >> 15;
    }
  }
  return rgb;
}

function sizeOf(format, view) {
  try {
    return FORMATS[format].size(view);
  } catch (error) {
    if (error instanceof RangeError) throw new ImageError("The picture is cut off: its header does not end.");
    throw error;
  }
}

const startsWith = (bytes, text, at = 0) =>
  Array.from(text).every((char, index) => bytes[at + index] === char.charCodeAt(0));

const FORMATS = {
  jpeg: { is: (bytes) => startsWith(bytes, "\xff\xd8\xff"), size: jpegSize },
  png: {
    is: (bytes) => startsWith(bytes, "\x89PNG\r\n\x1a\n"),
    size: (view) => [view.getUint32(16), view.getUint32(20)],
  },
  webp: { is: (bytes) => startsWith(bytes, "RIFF") && startsWith(bytes, "WEBP", 8), size: webpSize },
  bmp: { is: (bytes) => startsWith(bytes, "BM"), size: bmpSize },
};

function jpegSize(view) {
  for (let at = 2; ;) {
    while (view.getUint8(at) !== 0xff) at += 1;
    while (view.getUint8(at) === 0xff) at += 1;
    const marker = view.getUint8(at);
    at += 1;
    if (JPEG_STANDALONE.includes(marker)) continue;
    if (marker >= 0xc0 && marker <= 0xcf && !JPEG_NO_FRAME.includes(marker)) {
      return [view.getUint16(at + 5), view.getUint16(at + 3)];
    }
    at += view.getUint16(at);
  }
}

function webpSize(view) {
  const kind = String.fromCharCode(...[12, 13, 14, 15].map((at) => view.getUint8(at)));
  const triple = (at) => view.getUint16(at, true) + view.getUint8(at + 2) * 65536 + 1;
  if (kind === "VP8X") return [triple(24), triple(27)];
  if (kind === "VP8L") {
    const packed = view.getUint32(21, true);
    return [(packed & 0x3fff) + 1, ((packed >>> 14) & 0x3fff) + 1];
  }
  return [view.getUint16(26, true) & 0x3fff, view.getUint16(28, true) & 0x3fff];
}

function bmpSize(view) {
  if (view.getUint32(14, true) === 12) return [view.getUint16(18, true), view.getUint16(20, true)];
  return [view.getInt32(18, true), Math.abs(view.getInt32(22, true))];
}
