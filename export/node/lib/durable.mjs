import { randomBytes } from "node:crypto";
import { mkdir, open, rename, rm } from "node:fs/promises";
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
 * Write a folder of files that appears whole or not at all, replacing one of that name.
 *
 * @param {string} path the folder
 * @param {Record<string, Uint8Array>} files name to content
 * @returns {Promise<void>} once it is on the disk
 * @throws {Error} when it cannot be written; nothing new is left then
 */
export async function writeFolder(path, files) {
  const temporary = temporaryName(path);
  try {
    await mkdir(temporary, { recursive: true });
    for (const [name, bytes] of Object.entries(files)) await writeSynced(join(temporary, name), bytes);
    await syncFolder(temporary);
    await rm(path, { recursive: true, force: true });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

function temporaryName(path) {
  return join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
}

async function writeSynced(path, bytes) {
  const file = await open(path, "wx");
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncFolder(path) {
  if (process.platform === "win32") return; // folders cannot be synced there
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
