import { fromBase64, toFloats } from "./bytes.mjs";
import { parse } from "./canonical.mjs";
import { BundleError } from "./errors.mjs";

const SCHEMA = 1;
const FILE_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;
const HEX_64 = /^[0-9a-f]{64}$/;
const VERSION = /^[0-9]{1,6}(\.[0-9]{1,6}){1,3}$/;
const PRECISIONS = ["fp32", "fp16", "int8", "int8-weights"];
const ROLES = {
  head: "head.onnx",
  encoder: "encoder.onnx",
  "encoder-data": "encoder.onnx.data",
  preprocess: "preprocess.onnx",
};
const RESERVED = ["manifest.json", "manifest.sig"];

/**
 * One file of a bundle.
 *
 * @typedef {object} FileEntry
 * @property {string} name its name in the bundle's folder
 * @property {"head"|"encoder"|"encoder-data"|"preprocess"} role what it is
 * @property {number} size bytes
 * @property {string} sha256 64 hex digits
 * @property {boolean} installed true in an update: the device has it already
 */

/**
 * A checked manifest: the JSON's fields as they are, and `golden` decoded.
 *
 * @typedef {object} Manifest
 * @property {string} product which kind of device it is for
 * @property {number} sequence rises with every release; UTC seconds by default
 * @property {number | null} not_before UTC seconds
 * @property {number | null} expires UTC seconds
 * @property {string[]} labels class names, in the order of the logits
 * @property {number} round federation round that made the head
 * @property {number} feature_dim width of an image feature
 * @property {number} image_size pixels, side of the encoder's input
 * @property {string} precision of the encoder: fp32, fp16, int8 or int8-weights
 * @property {FileEntry[]} entries every file
 * @property {boolean} isUpdate true when encoder and preprocess are those already installed
 * @property {{features: Float32Array, logits: Float32Array, images: Array<{height: number, width: number,
 *   data: Uint8Array}>}} golden known inputs with the answers they must give
 */

/**
 * Read and check manifest.json. Every field is required and no other is allowed.
 *
 * @param {Uint8Array} raw the file's bytes
 * @returns {Manifest} the manifest, frozen
 * @throws {BundleError} `not-json`, `duplicate-key`, `not-canonical`, `schema`, `malformed`, `file-name` or `labels`
 */
export function parseManifest(raw) {
  const fields = parse(raw);
  if (!isObject(fields) || fields.schema !== SCHEMA) {
    throw new BundleError(
      "schema",
      `The manifest is not of schema ${SCHEMA}, the only one known here: update this program.`,
    );
  }
  checkObject(fields, FIELDS, "manifest");
  const entries = readEntries(fields.files);
  const isUpdate = entries.find((entry) => entry.role === "encoder").installed;
  const golden = readGolden(fields, isUpdate);
  return Object.freeze({ ...fields, entries, isUpdate, golden });
}

/**
 * @param {Manifest} manifest a checked manifest
 * @param {string} role `head`, `encoder`, `encoder-data` or `preprocess`
 * @returns {FileEntry | undefined} the file of that role
 */
export function entryOf(manifest, role) {
  return manifest.entries.find((entry) => entry.role === role);
}

function refuse(what) {
  throw new BundleError("malformed", `manifest.json is not as schema ${SCHEMA} says: ${what}. Make the bundle again.`);
}

const MAX_FEATURES = 65536;
const MAX_SIDE = 4096;
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isText = (value) => typeof value === "string" && value.isWellFormed();
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const isPositive = (value) => isCount(value) && value > 0;
const isSide = (value) => isPositive(value) && value <= MAX_SIDE;
const isTime = (value) => value === null || isCount(value);
const isBoolean = (value) => typeof value === "boolean";
const isHash = (value) => isText(value) && HEX_64.test(value);
const isVersion = (value) => isText(value) && VERSION.test(value);
const isName = (value) => isText(value) && value !== "";
const isTextMap = (value) => isObject(value) && Object.values(value).every(isText);
const isTextTree = (value) => isText(value) || (isObject(value) && Object.values(value).every(isTextTree));
const isLabels = (value) =>
  Array.isArray(value) && value.length > 0 && value.every(isName) && new Set(value).size === value.length;
const isShape = (fields) => (value, path) => {
  checkObject(value, fields, path);
  return true;
};

const IMAGE = { height: isSide, width: isSide, rgb: isName };
const GOLDEN = { features: isName, logits: isName, images: Array.isArray };
const ENTRY = {
  role: (value) => isText(value) && Object.hasOwn(ROLES, value),
  size: isPositive,
  sha256: isHash,
  installed: isBoolean,
};
const FIELDS = {
  schema: isPositive,
  product: isName,
  sequence: isCount,
  not_before: isTime,
  expires: isTime,
  labels: isLabels,
  prompt_template: isText,
  method: isName,
  round: isCount,
  adapter: isShape({ sha256: isHash, recipe_digest: isText }),
  backbone: isShape({ name: isName, fingerprint: isHash }),
  feature_dim: (value) => isPositive(value) && value <= MAX_FEATURES,
  image_size: isSide,
  precision: (value) => PRECISIONS.includes(value),
  files: isObject,
  onnxruntime: isShape({ lowest: isVersion, tested: (value) => Array.isArray(value) && value.every(isText) }),
  versions: isTextMap,
  golden: isObject,
  parity: (value) => isObject(value) && isTextTree(value),
};

function checkObject(value, fields, path) {
  if (!isObject(value)) refuse(`"${path}" must be an object`);
  for (const key of Object.keys(fields)) {
    if (!(key in value)) refuse(`"${key}" is missing in ${path}`);
  }
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(fields, key)) refuse(`"${key}" is not a known field of ${path}`);
    if (!fields[key](value[key], key)) refuse(`"${key}" in ${path} has a value that is not allowed`);
  }
}

function readEntries(files) {
  Object.keys(files).forEach(checkFileName);
  const entries = Object.keys(files).map((name) => {
    checkObject(files[name], ENTRY, `files.${name}`);
    return Object.freeze({ name, ...files[name] });
  });
  const roles = entries.map((entry) => entry.role);
  const missing = Object.keys(ROLES).find((role) => role !== "encoder-data" && !roles.includes(role));
  if (missing !== undefined) refuse(`no file is the ${missing}`);
  const misnamed = entries.find((entry) => ROLES[entry.role] !== entry.name);
  if (misnamed !== undefined) refuse(`the ${misnamed.role} must be ${ROLES[misnamed.role]}, not ${misnamed.name}`);
  const carried = new Set(entries.filter((entry) => entry.role !== "head").map((entry) => entry.installed));
  if (carried.size !== 1 || entries.some((entry) => entry.role === "head" && entry.installed)) {
    refuse("either no file is marked installed, or all but the head");
  }
  return Object.freeze(entries);
}

function checkFileName(name) {
  if (FILE_NAME.test(name) && !RESERVED.includes(name)) return;
  throw new BundleError(
    "file-name",
    `${JSON.stringify(name)} is not a plain file name: lower-case letters, digits and ._- only.`,
  );
}

function readGolden({ golden, feature_dim: width, labels }, isUpdate) {
  checkObject(golden, GOLDEN, "golden");
  const features = readBytes(golden.features, "golden.features");
  const count = features.length / (4 * width);
  if (!isPositive(count)) refuse("golden.features must hold K x feature_dim numbers");
  const logits = readBytes(golden.logits, "golden.logits");
  if (logits.length !== 4 * count * labels.length) {
    throw new BundleError(
      "labels",
      `golden.logits has ${logits.length} bytes, not those of ${count} x ${labels.length} labels. Make it again.`,
    );
  }
  const images = golden.images.map(readImage);
  if (images.length !== (isUpdate ? 0 : count)) refuse("golden.images must hold one image for each golden feature");
  return Object.freeze({ features: readFloats(features), logits: readFloats(logits), images });
}

function readBytes(text, path) {
  return fromBase64(text) ?? refuse(`"${path}" must be strict base64`);
}

function readFloats(bytes) {
  const floats = toFloats(bytes);
  if (floats.every(Number.isFinite)) return floats;
  throw new BundleError("not-finite", "The golden values hold NaN or infinity. Make the bundle again.");
}

function readImage(image, at) {
  const path = `golden.images[${at}]`;
  checkObject(image, IMAGE, path);
  const data = fromBase64(image.rgb);
  if (data?.length !== image.height * image.width * 3)
    refuse(`"${path}.rgb" must be base64 of height x width x 3 bytes`);
  return Object.freeze({ height: image.height, width: image.width, data });
}
