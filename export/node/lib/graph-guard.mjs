import { BundleError } from "./errors.mjs";
import { entryOf } from "./manifest.mjs";
import { inspectOnnx } from "./onnx-facts.mjs";

const FLOAT = 1;
const UINT8 = 2;
const STANDARD = ["", "ai.onnx"];
// onnxruntime's own operators: quantised encoders use this one, and the others are that many more to be attacked by.
const RUNTIME = "com.microsoft";
const RUNTIME_OPERATORS = ["MatMulNBits"];

const port = (name, type, dims) => ({ name, type, dims });

const RULES = {
  head: ({ feature_dim: width, labels }) => ({
    inputs: [port("image_features", FLOAT, [null, width])],
    outputs: ["logits", "probabilities"].map((name) => port(name, FLOAT, [null, labels.length])),
  }),
  preprocess: ({ image_size: size }) => ({
    inputs: [port("image", UINT8, [null, null, 3])],
    outputs: [port("pixel_values", FLOAT, [1, 3, size, size])],
  }),
  encoder: ({ feature_dim: width, image_size: size }) => ({
    inputs: [port("pixel_values", FLOAT, [null, 3, size, size])],
    outputs: [port("image_features", FLOAT, [null, width])],
  }),
};

/**
 * Check that a graph is what its role says and can reach nothing outside the bundle: known operators only, no weights
 * in unlisted files, the agreed inputs and outputs, and (head, preprocess) finite weights.
 *
 * @param {"head"|"preprocess"|"encoder"} role what the graph is for
 * @param {Uint8Array} bytes the ONNX file
 * @param {import("./manifest.mjs").Manifest} manifest names its widths
 * @throws {BundleError} `graph`, `not-finite` or `labels`
 */
export function guardGraph(role, bytes, manifest) {
  const facts = readFacts(role, bytes);
  if (role === "head") checkLabels(facts.outputs, manifest.labels.length);
  const data = entryOf(manifest, "encoder-data")?.name;
  checkReach(role, facts, data);
  const expected = RULES[role](manifest);
  checkPorts(role, facts.inputs, expected.inputs);
  checkPorts(role, facts.outputs, expected.outputs);
  if (facts.notFinite) {
    throw new BundleError("not-finite", `The ${role} has weights that are NaN or infinite. Export the round again.`);
  }
}

function refuse(role, what) {
  throw new BundleError("graph", `The ${role} is not a graph that a bundle may hold: ${what}. Do not use this bundle.`);
}

function readFacts(role, bytes) {
  try {
    return inspectOnnx(bytes, role !== "encoder");
  } catch (error) {
    if (!(error instanceof RangeError || error instanceof TypeError)) throw error;
    return refuse(role, error.message);
  }
}

function checkLabels(outputs, count) {
  const width = outputs.find((output) => output.name === "logits")?.dims.at(-1) ?? count;
  if (width === count) return;
  throw new BundleError(
    "labels",
    `The head gives ${width} logits, but the manifest has ${count} labels. Export the bundle again.`,
  );
}

function checkReach(role, facts, data) {
  const domains = role === "encoder" ? [...STANDARD, RUNTIME] : STANDARD;
  const foreign = [...facts.domains].find((domain) => !domains.includes(domain));
  if (foreign !== undefined) refuse(role, `it uses operators of ${JSON.stringify(foreign)}`);
  const own = facts.operators.find(([domain, name]) => domain === RUNTIME && !RUNTIME_OPERATORS.includes(name));
  if (own !== undefined) refuse(role, `it uses ${JSON.stringify(own[1])} of ${RUNTIME}`);
  const outside = [...facts.outside].find((place) => role !== "encoder" || place !== data);
  if (outside !== undefined) refuse(role, `its weights lie in ${JSON.stringify(outside)}, which is not a listed file`);
}

function checkPorts(role, found, wanted) {
  if (JSON.stringify(found) === JSON.stringify(wanted)) return;
  refuse(role, `it has ${describe(found)} where ${describe(wanted)} is needed`);
}

function describe(ports) {
  return ports
    .map(({ name, type, dims }) => `${name} of type ${type} [${dims.map((size) => size ?? "any").join(", ")}]`)
    .join("; ");
}
