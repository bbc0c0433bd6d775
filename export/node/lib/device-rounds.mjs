import { readdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { asBundle, readBase, readManifest, readRoundHead } from "./bundle.mjs";
import { refuseRecords } from "./device-state.mjs";
import { protect, writeFolder, writeSynced } from "./durable.mjs";
import { asideOf, BundleError } from "./errors.mjs";
import { copyListed, folderSource, hasSize } from "./folder.mjs";
import { entryOf } from "./manifest.mjs";
import { baseName, checkProduct, checkRuntime } from "./policy.mjs";

/** Names of the folders that hold rounds and bases in a device folder. */
export const [ROUNDS, BASES] = ["rounds", "base"];

/** What mends a device whose encoder is damaged. */
export const FULL_BUNDLE = "export a full bundle (fedclip-export bundle) and install that";

/** Reasons that mean that the key of a round was removed from the device. */
export const OTHER_KEY = ["unsigned", "signature"];

const NO_DAMAGE = [...OTHER_KEY, "runtime-too-old", "graph", "self-test"];

/**
 * Read the manifest of an installed round, and see that it is of this name and product.
 *
 * @param {string} folder a device folder
 * @param {string} name of the round
 * @param {import("./bundle.mjs").Trust} trust keys and product
 * @returns {Promise<import("./bundle.mjs").Signed>} the manifest, and who signed it
 * @throws {BundleError} with the reason of the first rule that is broken
 */
async function readRound(folder, name, { keys, product }) {
  const signed = await readManifest(folderSource(join(folder, ROUNDS, name)), keys);
  checkProduct(signed.manifest, product);
  const { sequence } = signed.manifest;
  if (String(sequence) !== name) refuseRecords(folder, `${ROUNDS}/${name} holds sequence ${sequence}`);
  return signed;
}

/**
 * Check an installed round with its base as if it were new, but for time and sequence.
 *
 * @param {string} folder a device folder
 * @param {string} name of the round
 * @param {import("./bundle.mjs").Trust} trust keys and product
 * @param {string} runtime onnxruntime's version
 * @returns {Promise<import("./bundle.mjs").Bundle>} a full one
 * @throws {BundleError} with the reason of the first rule that is broken
 */
export async function openRound(folder, name, trust, runtime) {
  const { signed, head } = await readHead(folder, name, trust);
  checkRuntime(signed.manifest, runtime);
  return asBundle(signed, head, await openBase(folder, signed.manifest));
}

/**
 * @param {string} folder a device folder
 * @param {string} name of a round that may be damaged
 * @returns {Promise<string>} what to call it: by its number where its manifest can be read
 */
export async function called(folder, name) {
  try {
    return `round ${(await readManifest(folderSource(join(folder, ROUNDS, name)), [])).manifest.round}`;
  } catch (error) {
    if (error instanceof BundleError) return `the round of sequence ${name}`;
    throw error;
  }
}

/**
 * @param {string} folder a device folder
 * @param {string} name of the current round
 * @param {import("./bundle.mjs").Trust} trust keys and product
 * @param {BundleError} error why it cannot be used
 * @returns {Promise<BundleError>} the same, with the way to mend it when it is damaged
 */
export async function explained(folder, name, trust, error) {
  const text = `${await called(folder, name)} on this device cannot be used (${asideOf(error)})`;
  if (NO_DAMAGE.includes(error.reason)) return new BundleError(error.reason, text);
  const whole = await orFalse(async () => (await readHead(folder, name, trust)) !== null);
  return new BundleError(error.reason, `${text}; ${whole ? FULL_BUNDLE : "give the same update again"}`);
}

/**
 * @param {string} folder a device folder
 * @param {import("./manifest.mjs").Manifest} manifest of a round
 * @returns {Promise<Pick<import("./bundle.mjs").Bundle, "preprocess" | "encoder">>} what it needs, verified
 * @throws {BundleError} when it is missing or damaged
 */
export async function openBase(folder, manifest) {
  return readBase(folderSource(await baseOf(folder, manifest)), manifest);
}

/**
 * @param {string} folder a device folder
 * @param {string} name of a round
 * @param {import("./bundle.mjs").Trust} trust keys and product
 * @param {boolean} whole whether to verify the base too, and not only its sizes
 * @returns {Promise<boolean>} whether the round can be served
 */
export async function isGood(folder, name, trust, whole) {
  return orFalse(async () => {
    const { manifest } = (await readHead(folder, name, trust)).signed;
    return whole ? (await openBase(folder, manifest)) !== null : hasBase(folder, manifest);
  });
}

/**
 * @param {string} folder a device folder
 * @param {import("./device-state.mjs").State} state what it remembers
 * @param {import("./bundle.mjs").Trust} trust keys and product
 * @param {readonly string[]} but names that are out of the question
 * @returns {Promise<string | null>} the newest other one to fall back to, null when all are damaged
 */
export async function wayBack(folder, { current, previous }, trust, but) {
  for (const name of [current, previous])
    if (name !== null && !but.includes(name) && (await isGood(folder, name, trust, false))) return name;
  return null;
}

/**
 * The manifest of the current round, else of the one before. One whose key is not held any more still tells which
 * encoder is installed.
 *
 * @param {string} folder a device folder
 * @param {import("./device-state.mjs").State} state what it remembers
 * @param {import("./bundle.mjs").Trust} trust keys and product
 * @returns {Promise<import("./manifest.mjs").Manifest | null>} null when neither can be read
 */
export async function newestManifest(folder, { current, previous }, trust) {
  for (const keys of [trust.keys, []]) {
    for (const name of [current, previous].filter((one) => one !== null)) {
      const signed = await orFalse(() => readRound(folder, name, { ...trust, keys }));
      if (signed) return signed.manifest;
    }
  }
  return null;
}

/**
 * @param {string} folder a device folder
 * @param {import("./manifest.mjs").Manifest} manifest of a round
 * @returns {Promise<boolean>} whether the files that it shares with others are there, with the right sizes
 */
export async function hasBase(folder, manifest) {
  const place = await baseOf(folder, manifest);
  const sizes = shared(manifest).map((entry) => hasSize(join(place, entry.name), entry.size));
  return (await Promise.all(sizes)).every(Boolean);
}

/**
 * Write manifest, signature and head as one folder; what an interrupted attempt left is replaced.
 *
 * @param {string} folder a device folder
 * @param {import("./bundle.mjs").Bundle} bundle a verified one
 * @returns {Promise<void>} once it is on the disk
 */
export async function writeRound(folder, { manifest, raw, signature, head }) {
  const files = { "manifest.json": raw, [entryOf(manifest, "head").name]: head, "manifest.sig": signature };
  await writeFolder(join(folder, ROUNDS, String(manifest.sequence)), async (temporary) => {
    for (const [name, bytes] of Object.entries(files))
      if (bytes !== null) await writeSynced(join(temporary, name), bytes);
    await protect(temporary);
  });
}

/**
 * Write encoder and preprocessing of a full bundle as one folder, unless a healthy copy is there.
 *
 * @param {string} folder a device folder
 * @param {import("./bundle.mjs").Bundle} bundle a verified one
 * @returns {Promise<void>} once it is on the disk
 * @throws {BundleError} when the delivered files were changed since they were verified
 */
export async function writeBase(folder, { manifest, preprocess, encoder }) {
  if (encoder === null || (await orFalse(async () => (await openBase(folder, manifest)) !== null))) return;
  await writeFolder(await baseOf(folder, manifest), async (temporary) => {
    for (const entry of shared(manifest)) {
      const target = join(temporary, entry.name);
      if (entry.role === "preprocess") await writeSynced(target, preprocess);
      else if (typeof encoder.model !== "string") await writeSynced(target, encoder.model);
      else await copyListed(dirname(encoder.model), entry, target);
    }
    await protect(temporary);
  });
}

/**
 * Delete what no kept round needs, and what interrupted attempts left. What cannot be deleted does no harm and is
 * tried again after the next round. While a kept round cannot be read, no base is deleted.
 *
 * @param {string} folder a device folder
 * @param {readonly string[]} kept names of rounds
 * @param {string} product of the device
 * @returns {Promise<void>} once it was tried
 */
export async function prune(folder, kept, product) {
  await removeOthers(folder, (name) => !(name.startsWith(".") && name.endsWith(".tmp")));
  await removeOthers(join(folder, ROUNDS), (name) => kept.includes(name));
  const bases = [];
  for (const name of kept) {
    try {
      bases.push(await baseName((await readRound(folder, name, { keys: [], product })).manifest));
    } catch (error) {
      if (error instanceof BundleError) return;
      throw error;
    }
  }
  await removeOthers(join(folder, BASES), (name) => bases.includes(name));
}

const shared = (manifest) => manifest.entries.filter((entry) => entry.role !== "head");

const baseOf = async (folder, manifest) => join(folder, BASES, await baseName(manifest));

async function readHead(folder, name, trust) {
  const signed = await readRound(folder, name, trust);
  return { signed, head: await readRoundHead(folderSource(join(folder, ROUNDS, name)), signed) };
}

async function removeOthers(folder, isKept) {
  const names = (await readdir(folder)).filter((name) => !isKept(name));
  await Promise.allSettled(names.map((name) => rm(join(folder, name), { recursive: true, force: true })));
}

async function orFalse(judge) {
  try {
    return await judge();
  } catch (error) {
    if (error instanceof BundleError) return false;
    throw error;
  }
}
