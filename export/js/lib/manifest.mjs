import { fromBase64, toFloats } from "./bytes.mjs";
import { BundleError } from "./errors.mjs";

const SCHEMA = 1;
const ROLES = /** @type {Record<string, string>} */ ({
  head: "head.onnx",
  encoder: "encoder.onnx",
  "encoder-data": "encoder.onnx.data",
  preprocess: "preprocess.onnx",
});
const RESERVED = ["manifest.json", "manifest.sig"];

/**
 * One file of a bundle.
 *
 * @typedef {object} FileEntry
 * @property {string} name its name in the bundle's folder
 * @property {string} role `head`, `encoder`, `encoder-data` or `preprocess`
 * @property {number} size bytes
 * @property {string} sha256 64 hex digits
 * @property {boolean} installed true in an update: the device has it already
 */

/**
 * What confidences are worth.
 *
 * @typedef {object} Calibration
 * @property {number} temperature what the head's logits were divided by already
 * @property {number} threshold an answer whose probability is lower is unknown
 * @property {number} false_reject_rate share of the known images that it was set with that were below it
 * @property {number} images how many those were
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
 * @property {{name: string}} backbone what the encoder was made of
 * @property {number} feature_dim width of an image feature
 * @property {number} image_size pixels, side of the encoder's input
 * @property {string} precision of the encoder: fp32, fp16, int8 or int8-weights
 * @property {{lowest: string}} onnxruntime the lowest version that may run it
 * @property {string[]} [next_keys] base64 of raw public keys that a device which accepts this trusts from then on
 * @property {[number, number] | null} [sample_range] what is black and white in samples of more than 8 bits
 * @property {Calibration | null} [calibration] what confidences are worth; without it no answer is unknown
 * @property {{epsilon: number, delta: number} | null} [privacy] differential privacy of each training image, where known
 * @property {FileEntry[]} entries every file
 * @property {boolean} isUpdate true when encoder and preprocess are those already installed
 * @property {{features: Float32Array, logits: Float32Array, images: Array<import("./edge-classifier.mjs").RgbImage>}}
 *   golden known inputs with the answers they must give
 */

/** @typedef {Record<string, (value: any) => boolean>} Fields rule of each field; with no other is it complete */

/**
 * Read and check manifest.json. Only `next_keys`, `sample_range`, `calibration` and `privacy` may be missing, and no
 * other field is allowed.
 *
 * @param {Uint8Array} raw the file's bytes, signature verified
 * @returns {Manifest} the manifest
 * @throws {BundleError} `not-json`, `schema`, `malformed`, `file-name`, `labels` or `not-finite`
 */
export function parseManifest(raw) {
  const fields = parseJson(raw);
  if (fields?.schema !== SCHEMA)
    throw new BundleError("schema", `The manifest is not of schema ${SCHEMA}: update this program.`);
  checkObject({ next_keys: [], sample_range: null, calibration: null, privacy: null, ...fields }, FIELDS, "manifest");
  if (isObject(fields.calibration)) checkObject(fields.calibration, CALIBRATION, "calibration");
  if (isObject(fields.privacy)) checkObject(fields.privacy, PRIVACY, "privacy");
  const entries = readEntries(fields.files);
  const isUpdate = entries.some((entry) => entry.installed);
  return { ...fields, entries, isUpdate, golden: readGolden(fields, isUpdate) };
}

/**
 * @param {Manifest} manifest a checked manifest
 * @param {string} role `head`, `encoder` or `preprocess`, which every manifest has
 * @returns {FileEntry} the file of that role
 */
export const entryOf = ({ entries }, role) =>
  /** @type {FileEntry} */ (entries.find((entry) => entry.role === role));

/**
 * @param {Manifest} manifest a checked manifest
 * @returns {FileEntry[]} encoder (with its data) and preprocessing, which rounds share
 */
export const baseEntries = ({ entries }) => entries.filter(({ role }) => role !== "head");

/** @param {string} what breaks the schema @returns {never} */
function refuse(what) {
  throw new BundleError("malformed", `manifest.json is not as schema ${SCHEMA} says: ${what}. Make the bundle again.`);
}

/** @param {Uint8Array} raw bytes @returns {any} the value */
function parseJson(raw) {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(raw));
  } catch (error) {
    throw new BundleError("not-json", `manifest.json is not JSON (${error}). Fetch the bundle again.`);
  }
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isText = (value) => typeof value === "string";
const isName = (value) => isText(value) && value !== "";
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const isTime = (value) => value === null || isCount(value);
const upTo = (most) => (value) => isCount(value) && value > 0 && value <= most;
const matches = (form) => (value) => isText(value) && form.test(value);
const listOf =
  (rule, least = 0, most = Infinity) =>
  (value) =>
    Array.isArray(value) && value.length >= least && value.length <= most && value.every(rule);

const isHash = matches(/^[0-9a-f]{64}$/);
const isFileName = matches(/^[a-z0-9][a-z0-9._-]{0,63}$/);
const isPublicKey = matches(/^[A-Za-z0-9+/]{43}=$/);

/** @type {Fields} */
const ENTRY = {
  role: (value) => isText(value) && Object.hasOwn(ROLES, value),
  size: upTo(Number.MAX_SAFE_INTEGER),
  sha256: isHash,
  installed: (value) => typeof value === "boolean",
};
/** @type {Fields} */
const IMAGE = { height: upTo(4096), width: upTo(4096), rgb: isName };
/** @type {Fields} */
const GOLDEN = { features: isName, logits: isName, images: Array.isArray };
const isShare = (value) => Number.isFinite(value) && value >= 0 && value < 1;
/** @type {Fields} */
const CALIBRATION = {
  temperature: (value) => Number.isFinite(value) && value > 0 && value <= 1e6,
  threshold: isShare,
  false_reject_rate: isShare,
  images: upTo(Number.MAX_SAFE_INTEGER),
};
/** @type {Fields} */
const PRIVACY = {
  epsilon: (value) => Number.isFinite(value) && value >= 0,
  delta: (value) => isShare(value) && value > 0,
};
/** @type {Fields} */
const FIELDS = {
  schema: isCount,
  product: isName,
  sequence: isCount,
  not_before: isTime,
  expires: isTime,
  labels: (value) => listOf(isName, 1)(value) && new Set(value).size === value.length,
  prompt_template: isText,
  method: isName,
  round: isCount,
  adapter: isObject,
  backbone: (value) => isName(value?.name),
  feature_dim: upTo(65536),
  image_size: upTo(4096),
  precision: (value) => ["fp32", "fp16", "int8", "int8-weights"].includes(value),
  files: isObject,
  onnxruntime: (value) => matches(/^[0-9]{1,6}(\.[0-9]{1,6}){1,3}$/)(value?.lowest),
  versions: isObject,
  golden: isObject,
  parity: isObject,
  next_keys: listOf(isPublicKey, 0, 8),
  sample_range: (value) =>
    value === null || (listOf(Number.isFinite, 2, 2)(value) && value[0] < value[1] && Number.isFinite(value[1] - value[0])),
  calibration: (value) => value === null || isObject(value),
  privacy: (value) => value === null || isObject(value),
};

/** @param {any} value from JSON @param {Fields} fields what it has to have @param {string} path where it stands */
function checkObject(value, fields, path) {
  if (!isObject(value)) refuse(`"${path}" must be an object`);
  for (const key of new Set([...Object.keys(fields), ...Object.keys(value)])) {
    if (!Object.hasOwn(value, key)) refuse(`"${key}" is missing in ${path}`);
    if (!Object.hasOwn(fields, key)) refuse(`"${key}" is not a known field of ${path}`);
    if (!fields[key](value[key])) refuse(`"${key}" in ${path} has a value that is not allowed`);
  }
}

/** @param {Record<string, any>} files as in the JSON @returns {FileEntry[]} the same, checked */
function readEntries(files) {
  const strange = Object.keys(files).find((name) => !isFileName(name) || RESERVED.includes(name));
  if (strange !== undefined)
    throw new BundleError("file-name", `${JSON.stringify(strange)} is not a plain lower-case file name.`);
  const entries = Object.keys(files).map((name) => {
    checkObject(files[name], ENTRY, `files.${name}`);
    return { name, ...files[name] };
  });
  for (const role of Object.keys(ROLES).filter((one) => one !== "encoder-data"))
    if (!entries.some((entry) => entry.role === role)) refuse(`no file is the ${role}`);
  const misnamed = entries.find((entry) => ROLES[entry.role] !== entry.name);
  if (misnamed !== undefined) refuse(`the ${misnamed.role} must be ${ROLES[misnamed.role]}, not ${misnamed.name}`);
  const isUpdate = entries.some((entry) => entry.installed);
  if (entries.some((entry) => entry.installed !== (isUpdate && entry.role !== "head")))
    refuse("either no file is marked installed, or all but the head");
  return entries;
}

/** @param {any} fields as in the JSON @param {boolean} isUpdate whether it carries no images */
function readGolden({ golden, feature_dim: width, labels }, isUpdate) {
  checkObject(golden, GOLDEN, "golden");
  const features = readBase64(golden.features, "features");
  const logits = readBase64(golden.logits, "logits");
  const count = features.length / (4 * width);
  if (!Number.isInteger(count) || count === 0) refuse("golden.features must hold K x feature_dim numbers");
  if (logits.length !== 4 * count * labels.length)
    throw new BundleError("labels", `golden.logits does not hold ${count} x ${labels.length} numbers. Make it again.`);
  if (golden.images.length !== (isUpdate ? 0 : count)) refuse("there must be one golden image for each golden feature");
  const images = golden.images.map((image) => {
    checkObject(image, IMAGE, "golden.images");
    const data = readBase64(image.rgb, "images");
    if (data.length !== image.height * image.width * 3) refuse("golden.images must hold height x width x 3 bytes");
    return { height: image.height, width: image.width, data };
  });
  return { features: readFloats(features), logits: readFloats(logits), images };
}

/** @param {string} text base64 @param {string} name of the field @returns {Uint8Array<ArrayBuffer>} the bytes */
const readBase64 = (text, name) => fromBase64(text) ?? refuse(`"golden.${name}" must be base64`);

/** @param {Uint8Array} bytes numbers @returns {Float32Array} the same */
function readFloats(bytes) {
  const floats = toFloats(bytes);
  if (floats.every(Number.isFinite)) return floats;
  throw new BundleError("not-finite", "The golden values hold NaN or infinity. Make the bundle again.");
}
