import { BundleError } from "./errors.mjs";

/** @typedef {import("./manifest.mjs").Manifest} Manifest */

/** @type {Record<string, (manifest: Manifest) => string[][]>} inputs and outputs of each graph: name, type, sizes */
const PORTS = {
  preprocess: ({ image_size: side }) => [["image uint8 *,*,3"], [`pixel_values float32 1,3,${side},${side}`]],
  encoder: ({ image_size: side, feature_dim: width }) => [
    [`pixel_values float32 *,3,${side},${side}`],
    [`image_features float32 *,${width}`],
  ],
  head: ({ feature_dim: width, labels }) => [
    [`image_features float32 *,${width}`],
    [`logits float32 *,${labels.length}`, `probabilities float32 *,${labels.length}`],
  ],
};

/**
 * The graphs that rounds share; `holders` says how many do.
 *
 * @typedef {{preprocess: any, encoder: any, holders: number}} Base
 */

/**
 * @param {any} ort the onnxruntime module
 * @param {Manifest} manifest says what they are
 * @param {import("./open-bundle.mjs").Files} files their bytes
 * @param {object} options onnxruntime's session options
 * @throws {BundleError} `graph`
 */
export async function makeBase(ort, manifest, files, options) {
  const data = files["encoder-data"];
  const external = data && { externalData: [{ path: "encoder.onnx.data", data }] };
  const preprocess = await makeSession(ort, "preprocess", files.preprocess, manifest, options);
  const encoder = await makeSession(ort, "encoder", files.encoder, manifest, { ...options, ...external });
  return { preprocess, encoder, holders: 0 };
}

/**
 * @param {any} ort the onnxruntime module
 * @param {string} role what the graph is for
 * @param {Uint8Array} model its bytes, so that onnxruntime opens no other file
 * @param {Manifest} manifest says which inputs and outputs it has to have
 * @param {object} options onnxruntime's session options
 * @throws {BundleError} `graph`, or `labels` when a head has more or fewer of them
 */
export async function makeSession(ort, role, model, manifest, options) {
  const session = await ort.InferenceSession.create(model, options).catch((error) => {
    throw new BundleError("graph", `onnxruntime cannot load the ${role}: ${error.message}`);
  });
  const found = [session.inputMetadata, session.outputMetadata].map(portsOf);
  const wanted = PORTS[role](manifest);
  if (JSON.stringify(found) === JSON.stringify(wanted)) return session;
  await session.release();
  const width = found[1].find((port) => port.startsWith("logits "))?.split(",").at(-1);
  throw new BundleError(
    role === "head" && width && width !== String(manifest.labels.length) ? "labels" : "graph",
    `The ${role} has ${found.flat().join("; ")} where ${wanted.flat().join("; ")} is needed.`,
  );
}

/** @param {any} ort the onnxruntime module @returns {string} its version */
export const versionOf = (ort) => ort.env.versions.node ?? ort.env.versions.web ?? ort.env.versions.common;

/** @param {Array<{name: string, type: string, shape: Array<string | number>}>} ports @returns {string[]} sorted */
const portsOf = (ports) =>
  ports
    .map(({ name, type, shape }) => `${name} ${type} ${shape.map((size) => (Number(size) > 0 ? size : "*"))}`)
    .sort();
