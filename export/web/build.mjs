/**
 * Assemble the static site: node build.mjs --bundle BUNDLE [--update UPDATE] [--key PUB ...] --out SITE
 */
import { constants, copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const HERE = dirname(fileURLToPath(import.meta.url));
const LIB = join(HERE, "..", "node", "lib");
const ORT = join(HERE, "node_modules", "onnxruntime-web", "dist");
const ORT_FILES = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];
const LIB_FILES = [
  "bundle",
  "bytes",
  "canonical",
  "classifier",
  "errors",
  "graph-guard",
  "keys",
  "manifest",
  "onnx-facts",
  "picture",
  "policy",
  "protobuf",
  "tensors",
];
const USAGE = "use: node build.mjs --bundle BUNDLE [--update UPDATE] [--key PUB ...] --out SITE";

/**
 * Write the site's folder.
 *
 * @param {{bundle: string, update?: string, key: string[], out: string}} options paths; `out` must not exist
 * @throws {Error} when something to copy is missing, or the folder exists
 */
function build({ bundle, update, key, out }) {
  if (existsSync(out)) throw new Error(`${out} exists: choose another folder, or remove it`);
  if (!existsSync(ORT)) throw new Error(`onnxruntime-web is not installed: run npm install in ${HERE}`);
  const { product } = JSON.parse(readFileSync(join(bundle, "manifest.json"), "utf8"));
  try {
    cpSync(join(HERE, "page"), out, { recursive: true });
    copyFiles(
      LIB,
      LIB_FILES.map((name) => `${name}.mjs`),
      join(out, "lib"),
    );
    copyFiles(ORT, ORT_FILES, join(out, "ort"));
    cpSync(bundle, join(out, "bundle"), { recursive: true });
    if (update !== undefined) cpSync(update, join(out, "update"), { recursive: true });
    for (const path of key) copyFiles(dirname(path), [basename(path)], join(out, "keys"));
    const keys = key.map((path) => `keys/${basename(path)}`);
    writeFileSync(join(out, "site.json"), `${JSON.stringify({ product, keys }, null, 2)}\n`);
  } catch (error) {
    rmSync(out, { recursive: true, force: true });
    throw error;
  }
}

function copyFiles(from, names, to) {
  mkdirSync(to, { recursive: true });
  for (const name of names) copyFileSync(join(from, name), join(to, name), constants.COPYFILE_EXCL);
}

try {
  const { values } = parseArgs({
    options: {
      bundle: { type: "string" },
      update: { type: "string" },
      key: { type: "string", multiple: true, default: [] },
      out: { type: "string" },
    },
  });
  if (!values.bundle || !values.out) throw new Error(USAGE);
  build(values);
  console.log(`${values.out} is ready: publish it on any web server by https, or try it with serve.mjs`);
} catch (error) {
  console.error(`build: ${error.message}`);
  process.exitCode = 1;
}
