import { BundleError } from "./errors.mjs";

const PORTS = {
  preprocess: [["image"], ["pixel_values"]],
  encoder: [["pixel_values"], ["image_features"]],
  head: [["image_features"], ["logits", "probabilities"]],
};

/**
 * The graphs that rounds share; `holders` says how many do.
 *
 * @typedef {{preprocess: object, encoder: object, holders: number}} Base
 */

/**
 * @param {object} ort the onnxruntime module
 * @param {import("./bundle.mjs").Bundle} bundle a full one
 * @param {object} options onnxruntime's session options
 * @returns {Promise<Base>} its preprocessing and encoder, held by nobody yet
 * @throws {BundleError} `graph`
 */
export async function makeBase(ort, { preprocess, encoder: { model, data } }, options) {
  const external = data === null ? {} : { externalData: [{ path: data.name, data: data.bytes }] };
  return {
    preprocess: await makeSession(ort, "preprocess", preprocess, options),
    encoder: await makeSession(ort, "encoder", model, { ...options, ...external }),
    holders: 0,
  };
}

/**
 * @param {object} ort the onnxruntime module
 * @param {"preprocess"|"encoder"|"head"} role what the graph is for
 * @param {string | Uint8Array} model path or bytes
 * @param {object} options onnxruntime's session options
 * @returns {Promise<object>} a session with the inputs and outputs of its role
 * @throws {BundleError} `graph`
 */
export async function makeSession(ort, role, model, options) {
  const session = await ort.InferenceSession.create(model, options).catch((error) => {
    throw new BundleError("graph", `onnxruntime cannot load the ${role}: ${error.message}`);
  });
  const found = [session.inputNames, session.outputNames].map((names) => [...names].sort());
  if (JSON.stringify(found) !== JSON.stringify(PORTS[role])) {
    throw new BundleError(
      "graph",
      `The ${role} has inputs and outputs ${found.join(" -> ")}, not ${PORTS[role].join(" -> ")}.`,
    );
  }
  return session;
}

/**
 * Free the sessions of a round that no longer serves, as soon as no prediction uses them.
 *
 * @param {import("./classifier.mjs").Prepared} state the round
 * @returns {Promise<void>} once they are freed, or at once when they are in use
 */
export async function releaseWhenIdle(state) {
  if (!state.retired || state.users !== 0 || state.base === null) return;
  const { head, base } = state;
  state.head = state.base = null;
  base.holders -= 1;
  const unused = base.holders === 0 ? [head, base.preprocess, base.encoder] : [head];
  await Promise.all(unused.map((session) => session?.release()));
}
