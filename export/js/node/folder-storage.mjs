import { constants } from "node:fs";
import { mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { BundleError } from "../lib/errors.mjs";

const FLAGS = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
const NO_FILE = ["ENOENT", "ENOTDIR"];
const NOT_REGULAR = ["ELOOP", "EMLINK", "ENXIO"];

/**
 * A folder of this machine: as the storage of a device, or as the source of a bundle. Only regular files are read, no
 * links are followed.
 */
export class FolderStorage {
  /** @param {string} folder path; need not exist before the first `write` */
  constructor(folder) {
    /** @type {string} path */
    this.folder = folder;
    /** @type {string} what messages call it */
    this.place = `the device folder ${folder}`;
  }

  /**
   * @param {string} name of a file, perhaps in a folder
   * @param {number} limit bytes
   * @returns {Promise<Uint8Array<ArrayBuffer> | null>} its first `limit` + 1 bytes, null when there is none
   * @throws {BundleError} `not-regular`, or `missing-file` when it cannot be read
   */
  async read(name, limit) {
    const file = await open(join(this.folder, name), FLAGS).catch((error) => {
      if (NO_FILE.includes(error.code)) return null;
      if (NOT_REGULAR.includes(error.code)) return refuseKind(name);
      throw new BundleError("missing-file", `${name} cannot be read: ${error.message}`);
    });
    if (file === null) return null;
    try {
      const found = await file.stat();
      if (!found.isFile()) refuseKind(name);
      const bytes = new Uint8Array(Math.min(found.size, limit + 1));
      let [filled, last] = [0, -1];
      while (filled < bytes.length && last !== 0) {
        last = (await file.read(bytes, filled, bytes.length - filled, filled)).bytesRead;
        filled += last;
      }
      return bytes.subarray(0, filled);
    } finally {
      await file.close();
    }
  }

  /**
   * @param {string} name of a file, perhaps in a folder, which is made when it is missing
   * @param {Uint8Array} bytes its content
   * @returns {Promise<void>} once it is on the disk; a reader sees the old file or the new one, never half of it
   */
  async write(name, bytes) {
    const path = join(this.folder, name);
    const parent = dirname(path);
    const made = await mkdir(parent, { recursive: true });
    const temporary = join(parent, `.${basename(path)}.tmp`);
    try {
      const file = await open(temporary, "w");
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
    const last = made === undefined ? parent : dirname(made);
    for (let at = parent; at.length >= last.length; at = dirname(at)) {
      await syncFolder(at);
      if (at === dirname(at)) break;
    }
  }

  /** @returns {Promise<string[]>} what the folder holds, but for what an interrupted `write` left */
  async list() {
    const names = await readdir(this.folder).catch((error) => {
      if (NO_FILE.includes(error.code)) return [];
      throw error;
    });
    return names.filter((name) => !(name.startsWith(".") && name.endsWith(".tmp")));
  }

  /** @param {string} name of a file or a folder */
  async remove(name) {
    await rm(join(this.folder, name), { recursive: true, force: true });
  }
}

/** @param {string} name of what is no plain file @returns {never} */
function refuseKind(name) {
  throw new BundleError("not-regular", `${name} is a link, a folder or a device; only regular files are read.`);
}

/** @param {string} path a folder whose names are to be on the disk, where the system knows how */
async function syncFolder(path) {
  if (process.platform === "win32") return;
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
