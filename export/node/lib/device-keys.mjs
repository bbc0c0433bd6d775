import { constants } from "node:fs";
import { open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { writeFolder, writeSynced } from "./durable.mjs";
import { asideOf, BundleError, EdgeError } from "./errors.mjs";
import { loadPublicKey } from "./keys.mjs";

const KEYS = "keys";
const MAX_PEM = 65536;

/**
 * @param {readonly string[]} paths PEM files of public keys
 * @returns {Promise<import("./keys.mjs").PublicKey[]>} the keys
 * @throws {EdgeError} when one cannot be read or is something else, with its path
 */
export async function loadKeys(paths) {
  return Promise.all(
    paths.map(async (path) => {
      try {
        return { ...(await loadPublicKey(await readPem(path))), path };
      } catch (error) {
        throw new EdgeError(`The key ${path} cannot be used: ${error.message}`);
      }
    }),
  );
}

/**
 * @param {string} folder a device folder
 * @param {boolean} keyed whether its records say that keys were stored
 * @returns {Promise<import("./keys.mjs").PublicKey[]>} the keys that it keeps; it enforces them
 * @throws {BundleError} `device-state` when one is damaged, they cannot be read, or all of a keyed device's are gone
 */
export async function storedKeys(folder, keyed) {
  const names = await readdir(join(folder, KEYS)).catch((error) => {
    if (error.code !== "ENOENT") refuseKeys(folder, asideOf(error));
    return [];
  });
  const paths = names.filter((name) => name.endsWith(".pub")).sort();
  const keys = await loadKeys(paths.map((name) => join(folder, KEYS, name))).catch((error) => {
    refuseKeys(folder, asideOf(error));
  });
  if (keyed && keys.length === 0)
    refuseKeys(folder, "there are none, and this device takes only what its keys have signed");
  return keys;
}

/**
 * Keep exactly these keys as `keys/<id>.pub`; what an interrupted installation left is removed.
 *
 * @param {string} folder a device folder
 * @param {readonly import("./keys.mjs").PublicKey[]} keys to enforce from now on
 * @returns {Promise<string[]>} their ids, once they are on the disk
 */
export async function storeKeys(folder, keys) {
  const place = join(folder, KEYS);
  const pems = new Map(keys.map((key) => [key.id, key.pem]));
  if (pems.size === 0) await rm(place, { recursive: true, force: true });
  else {
    await writeFolder(place, async (temporary) => {
      for (const [id, pem] of pems) await writeSynced(join(temporary, `${id}.pub`), Buffer.from(pem));
    });
  }
  return [...pems.keys()].sort();
}

/**
 * Which keys decide on a device: those that it keeps, and given ones only where it keeps none.
 *
 * @param {string} folder a device folder
 * @param {readonly import("./keys.mjs").PublicKey[]} stored those that it keeps
 * @param {readonly import("./keys.mjs").PublicKey[]} given by the caller
 * @returns {readonly import("./keys.mjs").PublicKey[]} any one of which has to have signed
 * @throws {EdgeError} when a given one is none of those kept: nobody can add trust silently
 */
export function deciding(folder, stored, given) {
  if (stored.length === 0) return given;
  const ids = stored.map((key) => key.id);
  const strange = given.find((key) => !ids.includes(key.id));
  if (strange === undefined) return stored;
  throw new EdgeError(
    `${folder} enforces its own keys (${ids.join(", ")}); ${strange.path} (${strange.id}) is not one of them. To` +
      ` rotate, copy the .pub into ${join(folder, KEYS)}`,
  );
}

function refuseKeys(folder, what) {
  const text = `The keys of the device folder ${folder} cannot be used (${what}); put the .pub back into its keys/`;
  throw new BundleError("device-state", text);
}

async function readPem(path) {
  const file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    if (!(await file.stat()).isFile()) throw new TypeError("it is a folder, a pipe or a device; give a plain file");
    const { bytesRead, buffer } = await file.read(Buffer.alloc(MAX_PEM), 0, MAX_PEM, 0);
    return buffer.toString("latin1", 0, bytesRead);
  } finally {
    await file.close();
  }
}
