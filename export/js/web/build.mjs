/** Assemble the static site from a bundle that was verified. */
import { cp, mkdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { toPem } from "../lib/keys.mjs";
import { entryOf } from "../lib/manifest.mjs";
import { openBundle } from "../lib/open-bundle.mjs";
import { readManifest } from "../lib/signed-manifest.mjs";
import { FolderStorage } from "../node/folder-storage.mjs";
import { loadKeys } from "../node/index.mjs";

const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));
const ORT = join(PACKAGE, "node_modules", "onnxruntime-web");
const ORT_FILES = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];
const USAGE = `use: node build.mjs --bundle BUNDLE [--update UPDATE] [--key FILE ...] --out SITE
  --bundle FOLDER   full bundle, as delivered
  --update FOLDER   newer round for it
  --key FILE        public key (PEM) that must have signed; may be repeated
  --allow-unsigned  without any key, check hashes only, here and in the page
  --out FOLDER      the site; must not exist
Everything is verified first, by the rules that the page enforces; nothing is written when it is refused.`;

/** @typedef {import("../lib/open-bundle.mjs").Bundle} Bundle */

class UsageError extends Error {}

/**
 * Verify what is to be published, by the rules that the page enforces.
 *
 * @param {string} folder of the bundle
 * @param {string | undefined} updateFolder of the update, if there is one
 * @param {{keys: import("../lib/keys.mjs").PublicKey[], allowUnsigned: boolean}} held keys of the page
 * @returns {Promise<Record<string, Bundle>>} `bundle` and perhaps `update`, the very bytes that were verified
 */
async function verify(folder, updateFolder, held) {
  if (!(await stat(folder).catch(() => null))?.isDirectory()) throw new Error(`there is no folder ${folder}`);
  const { manifest } = await readManifest(new FolderStorage(folder), held);
  if (entryOf(manifest, "encoder-data") !== undefined)
    throw new Error(`${folder} has external data: it is not for the browser. Export it without --external-data`);
  if (manifest.isUpdate) throw new Error(`${folder} is an update: give it as --update, and a full bundle as --bundle`);
  const trust = { ...held, product: manifest.product };
  const runtime = JSON.parse(await readFile(join(ORT, "package.json"), "utf8")).version;
  const bundle = await openBundle(new FolderStorage(folder), trust, { runtime });
  if (updateFolder === undefined) return { bundle };
  const installed = { sequence: manifest.sequence, manifest };
  const update = await openBundle(new FolderStorage(updateFolder), trust, { installed, runtime });
  if (!update.manifest.isUpdate)
    throw new Error(`${updateFolder} is a full bundle; give it as --bundle, it takes effect at the next load`);
  return { bundle, update };
}

/**
 * Write the site's folder, whole or not at all.
 *
 * @param {string} out path; must not exist
 * @param {Record<string, Bundle>} parts to publish, by the name of their folder
 * @param {readonly import("../lib/keys.mjs").PublicKey[]} keys of the page
 */
async function write(out, parts, keys) {
  const site = join(dirname(out), `.${basename(out)}.${process.pid}.tmp`);
  await mkdir(dirname(out), { recursive: true });
  try {
    await cp(join(PACKAGE, "web", "page"), site, { recursive: true });
    await cp(join(PACKAGE, "lib"), join(site, "lib"), { recursive: true });
    for (const name of ORT_FILES) await cp(join(ORT, "dist", name), join(site, "ort", name));
    for (const [name, bundle] of Object.entries(parts)) await writeFiles(join(site, name), filesOf(bundle));
    const pems = await Promise.all(keys.map(async (key) => [`${key.id}.pub`, await toPem(key)]));
    await writeFiles(join(site, "keys"), Object.fromEntries(pems));
    const { product } = parts.bundle.manifest;
    await writeFiles(site, { "site.json": JSON.stringify({ product, keys: pems.map(([name]) => `keys/${name}`) }) });
    await rename(site, out);
  } catch (error) {
    await rm(site, { recursive: true, force: true });
    throw error;
  }
}

/** @param {Bundle} bundle verified @returns {Record<string, Uint8Array>} its files by name */
function filesOf({ manifest, raw, signature, head, base }) {
  const bytes = /** @type {Record<string, Uint8Array>} */ ({ head, ...base });
  const carried = manifest.entries.filter((entry) => !entry.installed).map(({ name, role }) => [name, bytes[role]]);
  return { "manifest.json": raw, ...(signature && { "manifest.sig": signature }), ...Object.fromEntries(carried) };
}

/** @param {string} to a folder, made when it is missing @param {Record<string, string | Uint8Array>} files by name */
async function writeFiles(to, files) {
  await mkdir(to, { recursive: true });
  for (const [name, content] of Object.entries(files)) await writeFile(join(to, name), content);
}

function readArguments() {
  const text = /** @type {const} */ ({ type: "string", multiple: false });
  const flag = /** @type {const} */ ({ type: "boolean", multiple: false, default: false });
  const key = /** @type {const} */ ({ type: "string", multiple: true });
  const options = { bundle: text, update: text, key, "allow-unsigned": flag, out: text, help: { ...flag, short: "h" } };
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message);
  }
}

async function main() {
  const { bundle, update, key = [], out, help, "allow-unsigned": allowUnsigned } = readArguments();
  if (help) return console.log(USAGE);
  if (!bundle || !out) throw new UsageError(`${bundle ? "--out" : "--bundle"} is missing`);
  if (await stat(out).catch(() => null)) throw new Error(`${out} exists: choose another folder, or remove it`);
  const keys = await loadKeys(key);
  const parts = await verify(bundle, update, { keys, allowUnsigned });
  await write(resolve(out), parts, keys);
  const { keyId } = parts.bundle;
  const signed = keyId === null ? "signature not checked (no key)" : `signed by ${keyId}`;
  console.log(`${out} is ready (${signed}): publish it by https, or try it with serve.mjs`);
}

try {
  await main();
} catch (error) {
  const { reason, message } = /** @type {any} */ (error);
  console.error(`build: ${reason === undefined ? "" : `refused (${reason}): `}${message}`);
  if (error instanceof UsageError) console.error(USAGE);
  process.exitCode = 1;
}
