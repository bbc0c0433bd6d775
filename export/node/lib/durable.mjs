import { randomBytes } from "node:crypto";
import { chmod, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/**
 * Write a file so that a reader sees the old one or the new one, never half of it.
 *
 * @param {string} path the file
 * @param {Uint8Array} bytes its content
 * @returns {Promise<void>} once it is on the disk
 * @throws {Error} when it cannot be written; the old file is untouched then
 */
export async function replaceFile(path, bytes) {
  const temporary = temporaryName(path);
  try {
    await writeSynced(temporary, bytes);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/**
 * Make a folder that appears whole or not at all, replacing one of that name.
 *
 * @param {string} path the folder; its parent is made when it is missing
 * @param {(temporary: string) => Promise<void>} fill writes its files with `writeSynced`
 * @returns {Promise<void>} once it is on the disk
 * @throws {Error} when it cannot be written; nothing new is left then
 */
export async function writeFolder(path, fill) {
  const temporary = temporaryName(path);
  try {
    await mkdir(temporary, { recursive: true });
    await fill(temporary);
    await syncFolder(temporary);
    await rm(path, { recursive: true, force: true });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/**
 * @param {string} path a new file
 * @param {Uint8Array | AsyncIterable<Uint8Array>} content its bytes
 * @returns {Promise<void>} once they are on the disk
 */
export async function writeSynced(path, content) {
  const file = await open(path, "wx");
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Let nobody write to the files of a folder, where that does not keep them from being deleted, as on Windows.
 *
 * @param {string} folder path
 * @returns {Promise<void>} once they are read-only
 */
export async function protect(folder) {
  if (process.platform === "win32") return;
  for (const name of await readdir(folder)) await chmod(join(folder, name), 0o444);
}

function temporaryName(path) {
  return join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
}

/**
 * Force the names in a folder to disk, where the system knows how.
 *
 * @param {string} path the folder
 * @returns {Promise<void>} once they are there
 */
export async function syncFolder(path) {
  if (process.platform === "win32") return; // folders cannot be synced there
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
