/** Assemble the static site from a bundle that was verified. */
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openBundle, readManifest } from "../node/lib/bundle.mjs";
import { loadKeys } from "../node/lib/device-keys.mjs";
import { folderSource } from "../node/lib/folder.mjs";
import { entryOf } from "../node/lib/manifest.mjs";

const HERE = dirname(fileURLToPath(import.meta.url));
const LIB = join(HERE, "..", "node", "lib");
const ORT = join(HERE, "node_modules", "onnxruntime-web");
const ORT_FILES = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];
const LIB_FILES = [
  "bundle",
  "bytes",
  "canonical",
  "change",
  "classifier",
  "errors",
  "graph-guard",
  "keys",
  "manifest",
  "onnx-facts",
  "picture",
  "policy",
  "protobuf",
  "self-test",
  "sessions",
  "tensors",
];
const USAGE = `use: node build.mjs --bundle BUNDLE [--update UPDATE] [--key FILE ...] --out SITE
  --bundle FOLDER   full bundle, as delivered
  --update FOLDER   newer round for it
  --key FILE        public key (PEM) that must have signed; may be repeated; with none only hashes are checked
  --out FOLDER      the site; must not exist
Everything is verified first, by the rules that the page enforces; nothing is written when it is refused.`;
const OPTIONS = {
  bundle: { type: "string" },
  update: { type: "string" },
  key: { type: "string", multiple: true, default: [] },
  out: { type: "string" },
  help: { type: "boolean", short: "h", default: false },
};

class UsageError extends Error {}

/**
 * What is to be published: the very bytes that were verified.
 *
 * @typedef {object} Parts
 * @property {import("../node/lib/keys.mjs").PublicKey[]} keys that the page holds
 * @property {string} product that the page serves
 * @property {import("../node/lib/bundle.mjs").Bundle} bundle a full one
 * @property {import("../node/lib/bundle.mjs").Bundle | null} update that fits it
 */

/**
 * Verify what is to be published, by the rules that the page enforces.
 *
 * @param {{bundle: string, update?: string, key: string[]}} options paths
 * @returns {Promise<Parts>} what may be published
 * @throws {Error} why it is refused
 */
async function verify({ bundle: folder, update: updateFolder, key }) {
  const keys = await loadKeys(key);
  const { manifest } = await readManifest(folderSource(folder), keys);
  if (entryOf(manifest, "encoder-data") !== undefined)
    throw new Error(`${folder} has external data: it is not for the browser. Export it without --external-data`);
  if (manifest.isUpdate) throw new Error(`${folder} is an update: give it as --update, and a full bundle as --bundle`);
  const { product } = manifest;
  const runtime = JSON.parse(readFileSync(join(ORT, "package.json"), "utf8")).version;
  const bundle = await openBundle(folderSource(folder), { keys, product }, { runtime });
  if (updateFolder === undefined) return { keys, product, bundle, update: null };
  const here = { installed: bundle.installed, runtime };
  const update = await openBundle(folderSource(updateFolder), { keys, product }, here);
  if (!update.manifest.isUpdate)
    throw new Error(`${updateFolder} is a full bundle; give it as --bundle, it takes effect at the next load`);
  return { keys, product, bundle, update };
}

/**
 * Write the site's folder, whole or not at all.
 *
 * @param {string} out path; must not exist
 * @param {Parts} parts what to publish
 */
function write(out, { keys, product, bundle, update }) {
  mkdirSync(dirname(out), { recursive: true });
  const site = join(dirname(out), `.${basename(out)}.${process.pid}.tmp`);
  mkdirSync(site);
  try {
    cpSync(join(HERE, "page"), site, { recursive: true });
    const lib = LIB_FILES.map((name) => `${name}.mjs`);
    copyFiles(LIB, lib, join(site, "lib"));
    copyFiles(join(ORT, "dist"), ORT_FILES, join(site, "ort"));
    writeFiles(join(site, "bundle"), filesOf(bundle));
    if (update !== null) writeFiles(join(site, "update"), filesOf(update));
    const pems = keys.map(({ id, pem }) => [`${id}.pub`, pem]);
    if (pems.length > 0) writeFiles(join(site, "keys"), Object.fromEntries(pems));
    const names = pems.map(([name]) => `keys/${name}`);
    writeFileSync(join(site, "site.json"), `${JSON.stringify({ product, keys: names }, null, 2)}\n`);
    renameSync(site, out);
  } catch (error) {
    rmSync(site, { recursive: true, force: true });
    throw error;
  }
}

function filesOf({ manifest, raw, signature, head, preprocess, encoder }) {
  const parts = { head, preprocess, encoder: encoder?.model };
  const carried = manifest.entries.filter((entry) => !entry.installed);
  const files = { "manifest.json": raw, ...Object.fromEntries(carried.map(({ name, role }) => [name, parts[role]])) };
  return signature === null ? files : { ...files, "manifest.sig": signature };
}

function writeFiles(to, files) {
  mkdirSync(to);
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(to, name), bytes);
}

function copyFiles(from, names, to) {
  mkdirSync(to, { recursive: true });
  for (const name of names) copyFileSync(join(from, name), join(to, name));
}

function readArguments() {
  try {
    return parseArgs({ options: OPTIONS }).values;
  } catch (error) {
    throw new UsageError(error.message);
  }
}

async function main() {
  const values = readArguments();
  if (values.help) return console.log(USAGE);
  for (const name of ["bundle", "out"]) if (!values[name]) throw new UsageError(`--${name} is missing`);
  if (existsSync(values.out)) throw new Error(`${values.out} exists: choose another folder, or remove it`);
  if (!existsSync(ORT)) throw new Error(`onnxruntime-web is not installed: run npm install in ${HERE}`);
  const parts = await verify(values);
  write(resolve(values.out), parts);
  const signed = parts.bundle.keyId === null ? "signature not checked (no key)" : `signed by ${parts.bundle.keyId}`;
  console.log(`${values.out} is ready (${signed}): publish it by https, or try it with serve.mjs`);
}

try {
  await main();
} catch (error) {
  console.error(`build: ${error.reason === undefined ? "" : `refused (${error.reason}): `}${error.message}`);
  if (error instanceof UsageError) console.error(USAGE);
  process.exitCode = 1;
}
