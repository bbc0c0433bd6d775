import { stat } from "node:fs/promises";
import { join } from "node:path";
import { Device } from "./device.mjs";
import { isThere } from "./device-state.mjs";
import { Edge, UNCHECKED } from "./edge.mjs";
import { BundleError, EdgeError, ImageError } from "./errors.mjs";
import { answerLine, changeFacts, changeText, manifestFacts, manifestText, printable } from "./text.mjs";

/** How the program is used. */
export const USAGE = `use: fedclip-edge-node predict FOLDER IMAGE... [--top N]
     fedclip-edge-node verify FOLDER [--against DEVICE]
     fedclip-edge-node update DEVICE SOURCE     DEVICE is made when it does not exist; SOURCE is an update or a bundle
     fedclip-edge-node rollback DEVICE
FOLDER is a bundle as delivered, or a device folder.
  --key FILE       public key (PEM) that may have signed; may be repeated; none checks hashes only
  --product NAME   what the bundle must be for (fedclip)
  --threads N      threads of the encoder
  --top N          labels per image (3)
  --json           print one JSON object
  --debug          show where an error arose`;

/** A wrong command line. */
export class UsageError extends EdgeError {}

/**
 * @typedef {object} Settings
 * @property {import("./edge.mjs").Options} options what to trust and how to run
 * @property {number} top labels per image
 * @property {boolean} json whether to print JSON
 * @property {string} [against] the device folder that an update is meant for
 */

/**
 * The commands by name; each takes the words after its name and returns the exit code.
 *
 * @type {Record<string, (words: string[], settings: Settings) => Promise<number>>}
 */
export const COMMANDS = {
  async predict([folder, ...images], { options, top, json }) {
    if (images.length === 0) throw new UsageError("predict needs a folder and at least one image");
    await requireFolder(folder);
    const edge = await Edge.open(folder, options);
    const width = Math.max(...images.map((image) => printable(image).length));
    const answers = [];
    for (const image of images) {
      const answer = await tryToPredict(edge, image, top);
      answers.push(answer);
      if (!json && answer.top !== undefined) console.log(answerLine(image, width, answer.top));
    }
    if (json) printJson({ ...identity(edge), answers: answers.map(rounded) });
    else sayOrigin(edge);
    return answers.some((answer) => answer.error !== undefined) ? 2 : 0;
  },

  async verify(words, { options, json, against }) {
    const [folder] = exactly(words, ["a folder"], "verify");
    await requireFolder(folder);
    if (against !== undefined) await requireFolder(against, "--against names a device folder or a bundle");
    const found = against === undefined ? await openWhole(folder, options) : await Edge.check(against, folder, options);
    const kind = await kindOf(folder, found.manifest);
    if (json) printJson({ ...manifestFacts(folder, kind, found), warnings: found.warnings });
    else {
      console.log(manifestText(folder, kind, found));
      found.warnings.forEach(note);
    }
    return 0;
  },

  async update(words, { options, json }) {
    const [device, source] = exactly(words, ["a device folder", "an update or a bundle"], "update");
    await requireNoBundle(device);
    await requireFolder(source, "the second argument is the folder of an update or a bundle");
    const { edge, change } = await Edge.install(device, source, options);
    const installed = change.oldRound === null;
    const facts = { installed, ...changeFacts(change), keys_kept: change.keysKept };
    sayChange(edge, facts, changeText(change), json);
    if (!json) change.keysKept.forEach((id) => note(`key ${id} is kept and enforced from now on`));
    return 0;
  },

  async rollback(words, { options, json }) {
    const [device] = exactly(words, ["a device folder"], "rollback");
    await requireNoBundle(device);
    await requireFolder(device);
    if (!(await new Device(device).exists()))
      throw new EdgeError(`${device} is no device folder: 'fedclip-edge-node update' makes one`);
    const edge = await Edge.open(device, options);
    const change = await edge.rollback();
    sayChange(edge, changeFacts(change), changeText(change), json);
    return 0;
  },
};

async function openWhole(folder, options) {
  try {
    return await Edge.open(folder, options);
  } catch (error) {
    if (error.reason !== "incomplete") throw error;
    throw new BundleError("incomplete", "this is an update: name what it is for with --against DEVICE");
  }
}

async function tryToPredict(edge, image, top) {
  try {
    return { image, top: (await edge.predict(image)).top.slice(0, top) };
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    console.error(`fedclip-edge-node: ${printable(error.message)}`);
    return { image, error: error.message };
  }
}

function rounded({ image, error, top }) {
  if (error !== undefined) return { image, error };
  const six = top.map(({ label, probability }) => ({ label, probability: Number(probability.toFixed(6)) }));
  return { image, ...six[0], top: six };
}

function exactly(words, wanted, command) {
  if (words.length === wanted.length) return words;
  throw new UsageError(`${command} takes ${wanted.join(" and ")}, not ${words.length} words`);
}

async function requireFolder(folder, what = "the first argument is a bundle or a device folder") {
  const found = await stat(folder).catch(() => null);
  if (found === null) throw new EdgeError(`there is no folder ${folder}`);
  if (!found.isDirectory()) throw new EdgeError(`${folder} is a file; ${what}`);
}

async function requireNoBundle(folder) {
  if (!(await isThere(folder))) return;
  await requireFolder(folder, "the first argument is a device folder");
  if ((await isThere(join(folder, "manifest.json"))) && !(await new Device(folder).exists()))
    throw new EdgeError(
      `${folder} is a bundle as delivered, not a device folder; name a new folder, to which` +
        ` 'fedclip-edge-node update DEVICE ${folder}' installs it`,
    );
}

async function kindOf(folder, { isUpdate }) {
  if (await new Device(folder).exists()) return "device";
  return isUpdate ? "update" : "bundle";
}

function identity(edge) {
  const { product, round, sequence } = edge.manifest;
  const provider = "CPUExecutionProvider";
  return { product, round, sequence, key_id: edge.keyId, provider, warnings: edge.warnings };
}

function sayChange(edge, facts, text, json) {
  if (json) return printJson({ ...identity(edge), ...facts });
  console.log(text);
  return sayOrigin(edge);
}

// On stderr, after the answers: which round gave them and who signed it.
function sayOrigin(edge) {
  const { round, sequence } = edge.manifest;
  const signed = edge.keyId === null ? "signature not checked (no key)" : `signed by key ${edge.keyId}`;
  console.error(`round ${round}, sequence ${sequence}, ${signed}`);
  edge.warnings.filter((text) => text !== UNCHECKED).forEach(note);
}

function note(text) {
  console.error(`note: ${printable(text)}`);
}

const escaped = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** @param {object} value printed as one JSON object, in ASCII, which every terminal and every pipe can carry */
export function printJson(value) {
  console.log(JSON.stringify(value, null, 1).replace(/[\u007f-\uffff]/g, escaped));
}
