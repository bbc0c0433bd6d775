import { Message } from "./protobuf.mjs";

// Field numbers of onnx.proto.
const MODEL = { graph: 7, opset: 8, training: 20, functions: 25 };
const OPSET = { domain: 1 };
const GRAPH = { node: 1, initializer: 5, input: 11, output: 12, sparse: 15 };
const NODE = { operator: 4, attribute: 5, domain: 7 };
const ATTRIBUTE = { float: 2, tensor: 5, graph: 6, floats: 7, tensors: 10, graphs: 11, sparse: 22, sparses: 23 };
const SPARSE = { values: 1, indices: 2 };
const TENSOR = { type: 2, floats: 4, integers: 5, raw: 9, doubles: 10, external: 13, location: 14 };
const EXTERNAL = { key: 1, value: 2 };
const VALUE = { name: 1, type: 2 };
const TYPE = { tensor: 1 };
const TENSOR_TYPE = { element: 1, shape: 2 };
const SHAPE = { dim: 1 };
const DIM = { value: 1 };

const OUTSIDE = 1;
const MAX_NESTING = 8;
const [FLOAT16, BFLOAT16] = [10, 16];
// Which bits of an element, all set, make it infinite or NaN; complex numbers are pairs.
const EXPONENTS = {
  1: [4, 0x7f800000],
  10: [2, 0x7c00],
  11: [8, 0x7ff00000],
  14: [4, 0x7f800000],
  15: [8, 0x7ff00000],
  16: [2, 0x7f80],
};

/**
 * What an ONNX file says about itself, read without loading it.
 *
 * @typedef {object} Facts
 * @property {Port[]} inputs of the outermost graph
 * @property {Port[]} outputs of the outermost graph
 * @property {Set<string>} domains operator domains imported or used, at any depth
 * @property {Array<[string, string]>} operators domain and name of every operator that is used, at any depth
 * @property {Set<string>} outside files that its weights lie in, at any depth
 * @property {boolean} notFinite whether some weight is NaN or infinite; only when weights were asked for
 */

/**
 * An input or output.
 *
 * @typedef {object} Port
 * @property {string} name as a session is fed by
 * @property {number} type element type, by its number in ONNX
 * @property {Array<number | null>} dims sizes, null where any will do
 */

/**
 * Read what matters for safety out of an ONNX file.
 *
 * @param {Uint8Array} bytes the file
 * @param {boolean} weights whether to look at every number in it
 * @returns {Facts} what was found
 * @throws {RangeError | TypeError} when this is not ONNX, or brings functions of its own, or is nested beyond reason
 */
export function inspectOnnx(bytes, weights) {
  const model = new Message(bytes);
  if (model.has(MODEL.training) || model.has(MODEL.functions)) {
    throw new RangeError("it brings functions or training steps of its own");
  }
  const graph = model.message(MODEL.graph);
  const domains = new Set(model.messages(MODEL.opset).map((opset) => opset.text(OPSET.domain)));
  if (domains.size === 0) throw new RangeError("it names no operator set");
  const [inputs, outputs] = [readPorts(graph, GRAPH.input), readPorts(graph, GRAPH.output)];
  const facts = { inputs, outputs, domains, operators: [], outside: new Set(), notFinite: false };
  visitGraph(graph, { facts, weights, nesting: MAX_NESTING });
  return facts;
}

function readPorts(graph, number) {
  return graph.messages(number).map((value) => {
    const tensor = value.message(VALUE.type).message(TYPE.tensor);
    const dims = tensor.message(TENSOR_TYPE.shape).messages(SHAPE.dim);
    return {
      name: value.text(VALUE.name),
      type: tensor.integer(TENSOR_TYPE.element),
      dims: dims.map((dim) => (dim.has(DIM.value) ? dim.integer(DIM.value) : null)),
    };
  });
}

function visitGraph(graph, visit) {
  if (visit.nesting < 0) throw new RangeError(`its graphs are nested deeper than ${MAX_NESTING}`);
  graph.messages(GRAPH.initializer).forEach((tensor) => visitTensor(tensor, visit));
  visitSparse(graph, GRAPH.sparse, visit);
  for (const node of graph.messages(GRAPH.node)) {
    visit.facts.domains.add(node.text(NODE.domain));
    visit.facts.operators.push([node.text(NODE.domain), node.text(NODE.operator)]);
    node.messages(NODE.attribute).forEach((attribute) => visitAttribute(attribute, visit));
  }
}

function visitAttribute(attribute, visit) {
  for (const number of [ATTRIBUTE.tensor, ATTRIBUTE.tensors]) {
    attribute.messages(number).forEach((tensor) => visitTensor(tensor, visit));
  }
  for (const number of [ATTRIBUTE.sparse, ATTRIBUTE.sparses]) visitSparse(attribute, number, visit);
  for (const number of [ATTRIBUTE.graph, ATTRIBUTE.graphs]) {
    attribute.messages(number).forEach((graph) => visitGraph(graph, { ...visit, nesting: visit.nesting - 1 }));
  }
  if (!visit.weights) return;
  for (const number of [ATTRIBUTE.float, ATTRIBUTE.floats]) judge(attribute.reals(number, 4), EXPONENTS[1], visit);
}

function visitSparse(parent, number, visit) {
  for (const sparse of parent.messages(number)) {
    for (const part of [SPARSE.values, SPARSE.indices])
      sparse.messages(part).forEach((tensor) => visitTensor(tensor, visit));
  }
}

function visitTensor(tensor, visit) {
  if (tensor.integer(TENSOR.location) === OUTSIDE || tensor.has(TENSOR.external)) {
    const entries = tensor.messages(TENSOR.external).filter((entry) => entry.text(EXTERNAL.key) === "location");
    const places = entries.map((entry) => entry.text(EXTERNAL.value));
    (places.length === 0 ? [""] : places).forEach((place) => visit.facts.outside.add(place));
  }
  if (!visit.weights) return;
  judge(tensor.reals(TENSOR.floats, 4), EXPONENTS[1], visit);
  judge(tensor.reals(TENSOR.doubles, 8), EXPONENTS[11], visit);
  const type = tensor.integer(TENSOR.type);
  if (Object.hasOwn(EXPONENTS, type)) judge(tensor.blobs(TENSOR.raw), EXPONENTS[type], visit);
  if (type === FLOAT16 || type === BFLOAT16) judgeHalves(tensor.integers(TENSOR.integers), EXPONENTS[type][1], visit);
}

function judge(blobs, [width, exponent], { facts }) {
  for (const blob of blobs) {
    if (blob.length % width !== 0) throw new RangeError("a tensor has a number that is cut off");
    if (!isFinite(blob, width, exponent)) facts.notFinite = true;
  }
}

function isFinite(blob, width, exponent) {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const top = Math.max(0, width - 4); // the exponent stands in the last four bytes
  for (let at = 0; at < blob.length; at += width) {
    const bits = width === 2 ? view.getUint16(at, true) : view.getUint32(at + top, true);
    if ((bits & exponent) === exponent) return false;
  }
  return true;
}

// These types may also stand as integers, one for the 16 bits of each number.
function judgeHalves(numbers, exponent, { facts }) {
  if (numbers.some((bits) => (bits & exponent) === exponent)) facts.notFinite = true;
}
