export { openBundle } from "./bundle.mjs";
export { EdgeClassifier } from "./classifier.mjs";
export { decodeBytes, decodeFile } from "./decode.mjs";
export { Device } from "./device.mjs";
export { Edge, loadKeys } from "./edge.mjs";
export { BundleError, ImageError, REASONS } from "./errors.mjs";
export { folderSource } from "./folder.mjs";
export { loadPublicKey } from "./keys.mjs";
