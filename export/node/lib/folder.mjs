import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { lstat, open, readdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { writeSynced } from "./durable.mjs";
import { BundleError } from "./errors.mjs";

const FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
const CHUNK = 2 ** 22;

/**
 * A folder as a source of bundle files: regular files only, no links followed, no more read than is allowed.
 *
 * @param {string} folder path of a bundle or an update
 * @returns {import("./bundle.mjs").Source} what `openBundle` reads from
 */
export function folderSource(folder) {
  return {
    names: () => listNames(folder),
    read: (name, limit, exact = false) =>
      withFile(folder, name, (file, size) => readWhole(file, name, size, limit, exact)),
    digest: async (entry) => {
      const sha256 = await withFile(folder, entry.name, (file, size) => hashWhole(file, entry, size));
      if (sha256 === null) throw new BundleError("missing-file", `The bundle has no ${entry.name}. Fetch it again.`);
      return { path: join(folder, entry.name), sha256 };
    },
  };
}

/**
 * @param {string} path a file
 * @param {number} size bytes
 * @returns {Promise<boolean>} whether it is a regular file of that size
 */
export async function hasSize(path, size) {
  const found = await lstat(path).catch(() => null);
  return found !== null && found.isFile() && found.size === size;
}

/**
 * Copy a large file of a bundle, forced to disk, and see that what was copied is as listed.
 *
 * @param {string} folder where it lies
 * @param {import("./manifest.mjs").FileEntry} entry its name, size and hash
 * @param {string} target path of the copy
 * @returns {Promise<void>} once it is on the disk
 * @throws {BundleError} `missing-file`, `not-regular`, `size` or `hash`
 */
export async function copyListed(folder, entry, target) {
  const hash = createHash("sha256");
  const copied = await withFile(folder, entry.name, async (file, size) => {
    await writeSynced(target, hashed(chunks(file, entry, size), hash));
    return true;
  });
  if (copied === null) throw new BundleError("missing-file", `${folder} has no ${entry.name}. Fetch it again.`);
  if (hash.digest("hex") !== entry.sha256)
    throw new BundleError("hash", `${entry.name} was changed after it was verified. Fetch it again.`);
}

async function listNames(folder) {
  try {
    return await readdir(folder);
  } catch (error) {
    throw new BundleError("missing-file", `${folder} cannot be read as a bundle's folder: ${error.message}`);
  }
}

async function withFile(folder, name, use) {
  const file = await openRegular(join(folder, name), name);
  if (file === null) return null;
  try {
    const found = await file.stat();
    if (!found.isFile()) refuseKind(name);
    return await use(file, found.size);
  } finally {
    await file.close();
  }
}

async function openRegular(path, name) {
  try {
    return await open(path, FLAGS);
  } catch (error) {
    if (error.code === "ENOENT" || error.code === "ENOTDIR") {
      await requireFolder(dirname(path));
      return null;
    }
    if (["ELOOP", "EMLINK", "ENXIO"].includes(error.code)) refuseKind(name);
    throw new BundleError("missing-file", `${name} cannot be read: ${error.message}`);
  }
}

async function requireFolder(folder) {
  const found = await stat(folder).catch(() => null);
  if (found === null) throw new BundleError("missing-file", `there is no folder ${folder}`);
  if (!found.isDirectory()) throw new BundleError("missing-file", `${folder} is a file; a folder is needed`);
}

function refuseKind(name) {
  throw new BundleError("not-regular", `${name} is a link, a folder or a device; a bundle holds regular files only.`);
}

async function readWhole(file, name, size, limit, exact) {
  if (exact && size !== limit) refuseSize(name, size, limit);
  if (size > limit) {
    throw new BundleError("too-large", `${name} has ${size} bytes; at most ${limit} are allowed.`);
  }
  const bytes = new Uint8Array(size);
  let filled = 0;
  while (filled < size) {
    const { bytesRead } = await file.read(bytes, filled, size - filled, filled);
    if (bytesRead === 0) refuseSize(name, filled, size);
    filled += bytesRead;
  }
  return bytes;
}

function refuseSize(name, size, expected) {
  throw new BundleError("size", `${name} has ${size} bytes where ${expected} are expected. Fetch it again.`);
}

async function hashWhole(file, entry, size) {
  const hash = createHash("sha256");
  for await (const chunk of chunks(file, entry, size)) hash.update(chunk);
  return hash.digest("hex");
}

async function* hashed(parts, hash) {
  for await (const part of parts) {
    hash.update(part);
    yield part;
  }
}

async function* chunks(file, entry, size) {
  if (size !== entry.size) refuseSize(entry.name, size, entry.size);
  const chunk = new Uint8Array(CHUNK);
  for (let at = 0; at < size; ) {
    const { bytesRead } = await file.read(chunk, 0, Math.min(CHUNK, size - at), at);
    if (bytesRead === 0) refuseSize(entry.name, at, size);
    yield chunk.subarray(0, bytesRead);
    at += bytesRead;
  }
}
