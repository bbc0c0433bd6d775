#!/usr/bin/env node
import { parseArgs } from "node:util";
import { BundleError, Edge, ImageError } from "../lib/index.mjs";

const USAGE = `use: fedclip-edge-node predict BUNDLE IMAGE... [--key PUB ...] [--top N] [--threads N] [--json]
     fedclip-edge-node verify  BUNDLE          [--key PUB ...] [--json]
     fedclip-edge-node update  DEVICE UPDATE   [--key PUB ...] [--json]
BUNDLE is a bundle as delivered or a device folder. --product NAME (default fedclip) must be the bundle's product.`;
const OPTIONS = {
  key: { type: "string", multiple: true, default: [] },
  product: { type: "string", default: "fedclip" },
  top: { type: "string", default: "3" },
  threads: { type: "string" },
  json: { type: "boolean", default: false },
  help: { type: "boolean", default: false },
};

class UsageError extends Error {}

const describe = ({ manifest, keyId }) => ({
  round: manifest.round,
  sequence: manifest.sequence,
  key_id: keyId,
  labels: manifest.labels,
  precision: manifest.precision,
});

const told = ({ manifest, keyId }) =>
  `round ${manifest.round}, sequence ${manifest.sequence}, ` +
  (keyId === null ? "not signed by a key you hold" : `signed by ${keyId}`);

const COMMANDS = {
  async verify(edge, [extra], { json }) {
    if (extra !== undefined) throw new UsageError(`verify takes one folder, not ${extra} as well`);
    print(json, { ok: true, ...describe(edge) }, `good: ${told(edge)}`);
  },
  async predict(edge, images, { json, top }) {
    if (images.length === 0) throw new UsageError("predict needs at least one image");
    for (const image of images) {
      const found = await edge.predict(image);
      const best = found.top.slice(0, count(top, "top"));
      const line = best.map(({ label, probability }) => `${label} ${(100 * probability).toFixed(1)} %`).join(", ");
      const { label, probability, logits, round, sequence, keyId, milliseconds } = found;
      print(
        json,
        { image, label, probability, top: best, logits: [...logits], round, sequence, key_id: keyId, milliseconds },
        `${image}: ${line}`,
      );
    }
    if (!json) console.log(`(${told(edge)})`);
  },
  async update(edge, [folder, ...rest], { json }) {
    if (folder === undefined || rest.length !== 0) throw new UsageError("update needs a device folder and an update");
    const change = await edge.update(folder);
    print(json, change, `updated: ${told(edge)}, swapped in ${change.milliseconds.toFixed(1)} ms`);
  },
};

function print(json, value, text) {
  console.log(json ? JSON.stringify(value) : text);
}

function count(text, name) {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new UsageError(`--${name} must be a whole number above 0, not ${text}`);
  return value;
}

function readArguments() {
  try {
    return parseArgs({ allowPositionals: true, options: OPTIONS });
  } catch (error) {
    throw new UsageError(error.message);
  }
}

async function main() {
  const {
    values,
    positionals: [command, folder, ...rest],
  } = readArguments();
  if (values.help) return console.log(USAGE);
  if (!Object.hasOwn(COMMANDS, command ?? "") || folder === undefined)
    throw new UsageError("which command, on which folder?");
  const threads = values.threads === undefined ? undefined : count(values.threads, "threads");
  const edge = await Edge.open(folder, { keys: values.key, product: values.product, threads });
  edge.warnings.forEach((warning) => console.error(`warning: ${warning}`));
  return COMMANDS[command](edge, rest, values);
}

try {
  await main();
} catch (error) {
  const known = error instanceof BundleError || error instanceof ImageError || error instanceof UsageError;
  console.error(
    error instanceof BundleError ? `refused (${error.reason}): ${error.message}` : `error: ${error.message}`,
  );
  if (error instanceof UsageError) console.error(USAGE);
  if (!known && process.env.DEBUG) console.error(error.stack);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
