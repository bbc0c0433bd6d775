export { openBundle } from "./bundle.mjs";
export { EdgeClassifier } from "./classifier.mjs";
export { decodeBytes, decodeFile } from "./decode.mjs";
export { Device } from "./device.mjs";
export { loadKeys } from "./device-keys.mjs";
export { Edge } from "./edge.mjs";
export { BundleError, EdgeError, ImageError, REASONS } from "./errors.mjs";
export { folderSource } from "./folder.mjs";
export { loadPublicKey } from "./keys.mjs";
