import { stat } from "node:fs/promises";
import { join } from "node:path";
import { UNCHECKED, warningsOf } from "../lib/device.mjs";
import { BundleError, EdgeError, ImageError } from "../lib/errors.mjs";
import { decodeFile } from "./decode.mjs";
import { FolderStorage, folderDevice, loadBundle, loadKeys } from "./index.mjs";
import { answerLine, changeFacts, changeText, manifestFacts, manifestText } from "./printing.mjs";
import { note, printable, printJson } from "./printing.mjs";

/** A wrong command line. */
export class UsageError extends EdgeError {}

/**
 * @typedef {object} Settings
 * @property {import("./index.mjs").Options} options what to trust and how to run
 * @property {number} top labels per image
 * @property {boolean} json whether to print JSON
 * @property {string} [against] the device folder or bundle that an update is meant for
 * @property {string[]} add PEM files of keys to trust
 * @property {string[]} remove ids of keys to trust no longer
 */

/** @typedef {import("./index.mjs").Options} Options */
/** @typedef {Pick<import("../lib/edge-classifier.mjs").EdgeClassifier, "manifest" | "keyId" | "predict">} Serving */
/** @typedef {Pick<import("../lib/edge-classifier.mjs").Prediction, "label" | "guess" | "known" | "probability" | "top">} Said */
/** @typedef {Said & {image: string}} Answered */
/** @typedef {{serving: Serving, warnings: string[]}} Opened what serves, and what an operator should know */

/**
 * The commands by name; each takes the words after its name and returns the exit code.
 *
 * @type {Record<string, (words: string[], settings: Settings) => Promise<number>>}
 */
export const COMMANDS = {
  async predict([folder, ...images], { options, top, json }) {
    if (images.length === 0) throw new UsageError("predict needs a folder and at least one image");
    const opened = await open(folder, options);
    const width = Math.max(...images.map((image) => printable(image).length));
    const answers = [];
    for (const image of images) {
      const answer = await tryToPredict(opened.serving, image, top);
      answers.push(answer);
      if (!json && "top" in answer) console.log(answerLine(image, width, answer));
    }
    if (json) printJson({ ...identity(opened), answers });
    else sayOrigin(opened);
    return answers.some((answer) => "error" in answer) ? 2 : 0;
  },

  async verify(words, { options, json, against }) {
    const [folder] = exactly(words, ["a folder"], "verify");
    await requireFolder(folder);
    const [kind, found, warnings] = await verified(folder, options, against);
    const facts = manifestFacts(folder, kind, found);
    if (json) printJson({ ...facts, warnings });
    else {
      console.log(manifestText(facts));
      warnings.forEach(note);
    }
    return 0;
  },

  async update(words, { options, json }) {
    const [folder, source] = exactly(words, ["a device folder", "an update or a bundle"], "update");
    await requireNoBundle(folder);
    await requireFolder(source, "the second argument is the folder of an update or a bundle");
    const device = await folderDevice(folder, options);
    const change = await device.update(new FolderStorage(source));
    sayChange(device, { installed: change.oldRound === null, ...changeFacts(change) }, changeText(change), json);
    if (!json) change.keysAdded.forEach((id) => note(`key ${id} is kept and enforced from now on`));
    return 0;
  },

  async rollback(words, { options, json }) {
    const device = await existing(exactly(words, ["a device folder"], "rollback")[0], options);
    const change = await device.rollback();
    sayChange(device, changeFacts(change), changeText(change), json);
    return 0;
  },

  async keys(words, { options, json, add, remove }) {
    const device = await existing(exactly(words, ["a device folder"], "keys")[0], options);
    const kept =
      add.length + remove.length > 0 ? await device.changeKeys(await loadKeys(add), remove) : await device.keys();
    if (json) printJson({ keys: kept });
    else kept.forEach((id) => console.log(id));
    return 0;
  },
};

/** @param {string} folder of either @param {Options} options @returns {Promise<Opened>} what serves */
async function open(folder, options) {
  await requireFolder(folder);
  const device = await folderDevice(folder, options);
  if (await device.exists()) {
    await device.open();
    return device;
  }
  const serving = await loadBundle(folder, options);
  return { serving, warnings: warningsOf(serving) };
}

/**
 * @param {string} folder to verify
 * @param {import("./index.mjs").Options} options what to trust
 * @param {string} [against] what an update is for
 * @returns {Promise<[string, import("../lib/edge-classifier.mjs").EdgeClassifier, string[]]>} kind, what was verified,
 *   and what an operator should know
 */
async function verified(folder, options, against) {
  if (against !== undefined) {
    await requireFolder(against, "--against names a device folder or a bundle");
    const device = await folderDevice(against, options);
    const found = (await device.exists())
      ? await device.check(new FolderStorage(folder))
      : await loadBundle(folder, options, await loadBundle(against, options));
    return [found.manifest.isUpdate ? "update" : "bundle", found, found.keyId === null ? [UNCHECKED] : []];
  }
  const device = await folderDevice(folder, options);
  if (await device.exists()) {
    await device.open();
    return ["device", device.serving, device.warnings];
  }
  const found = await loadBundle(folder, options).catch((error) => {
    if (error.reason !== "incomplete") throw error;
    throw new BundleError("incomplete", "this is an update: name what it is for with --against DEVICE");
  });
  return ["bundle", found, warningsOf(found)];
}

/**
 * @param {Serving} serving
 * @param {string} image path
 * @param {number} top how many labels
 * @returns {Promise<Answered | {image: string, error: string}>} the answer, or why there is none
 */
async function tryToPredict(serving, image, top) {
  try {
    const { label, guess, known, top: every } = await serving.predict(await decodeFile(image));
    const six = every
      .slice(0, top)
      .map(({ label, probability }) => ({ label, probability: Number(probability.toFixed(6)) }));
    return { image, label, guess, known, probability: six[0].probability, top: six };
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const said = error.message.startsWith(`${image}: `) ? error.message : `${image}: ${error.message}`;
    console.error(`fedclip-edge-node: ${printable(said)}`);
    return { image, error: said };
  }
}

/** @param {string[]} words after the command @param {string[]} wanted what they are @param {string} command */
function exactly(words, wanted, command) {
  if (words.length === wanted.length) return words;
  throw new UsageError(`${command} takes ${wanted.join(" and ")}, not ${words.length} words`);
}

async function requireFolder(folder = "", what = "the first argument is a bundle or a device folder") {
  const found = await stat(folder).catch(() => null);
  if (found === null) throw new EdgeError(`there is no folder ${folder}`);
  if (!found.isDirectory()) throw new EdgeError(`${folder} is a file; ${what}`);
}

/** @param {string} folder that is to be of a device */
async function requireNoBundle(folder) {
  if ((await stat(folder).catch(() => null)) === null) return;
  await requireFolder(folder, "the first argument is a device folder");
  if ((await stat(join(folder, "manifest.json")).catch(() => null)) !== null)
    throw new EdgeError(
      `${folder} is a bundle as delivered, not a device folder; name a new folder, to which` +
        ` 'fedclip-edge-node update DEVICE ${folder}' installs it`,
    );
}

/** @param {string} folder of a device @param {Options} options what to trust */
async function existing(folder, options) {
  await requireNoBundle(folder);
  await requireFolder(folder);
  const device = await folderDevice(folder, options);
  if (await device.exists()) return device;
  throw new EdgeError(`${folder} is no device folder: 'fedclip-edge-node update' makes one`);
}

/** @param {Opened} opened what serves */
function identity({ serving: { manifest, keyId }, warnings }) {
  const { product, round, sequence } = manifest;
  return { product, round, sequence, key_id: keyId, provider: "CPUExecutionProvider", warnings };
}

/** @param {Opened} opened what serves @param {object} facts for a program @param {string} text @param {boolean} json */
function sayChange(opened, facts, text, json) {
  if (json) return printJson({ ...identity(opened), ...facts });
  console.log(text);
  return sayOrigin(opened);
}

/** On stderr, after the answers: which round gave them and who signed it. @param {Opened} opened what serves */
function sayOrigin({ serving: { manifest, keyId }, warnings }) {
  const signed = keyId === null ? "signature not checked (no key)" : `signed by key ${keyId}`;
  console.error(`round ${manifest.round}, sequence ${manifest.sequence}, ${signed}`);
  warnings.filter((text) => text !== UNCHECKED).forEach(note);
}
