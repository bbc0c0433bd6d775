#!/usr/bin/env node
import { parseArgs } from "node:util";
import { EdgeError } from "../lib/errors.mjs";
import { COMMANDS, UsageError } from "./commands.mjs";
import { printable, printJson } from "./printing.mjs";

const USAGE = `use: fedclip-edge-node predict FOLDER IMAGE... [--top N]
     fedclip-edge-node verify FOLDER [--against DEVICE]
     fedclip-edge-node update DEVICE SOURCE     DEVICE is made when it does not exist; SOURCE is an update or a bundle
     fedclip-edge-node rollback DEVICE
     fedclip-edge-node keys DEVICE [--add FILE] [--remove ID]
FOLDER is a bundle as delivered, or a device folder.
  --key FILE        public key (PEM) that may have signed; may be repeated
  --allow-unsigned  without any key, check hashes only
  --product NAME    what the bundle must be for (fedclip)
  --threads N       threads of the encoder
  --top N           labels per image (3)
  --json            print one JSON object
  --debug           show where an error arose`;

function readArguments() {
  const text = /** @type {const} */ ({ type: "string", multiple: false });
  const texts = /** @type {const} */ ({ type: "string", multiple: true });
  const flag = /** @type {const} */ ({ type: "boolean", multiple: false, default: false });
  const help = /** @type {const} */ ({ ...flag, short: "h" });
  const words = { key: texts, add: texts, remove: texts, product: text, threads: text, top: text, against: text };
  try {
    const options = { ...words, "allow-unsigned": flag, json: flag, debug: flag, help };
    return parseArgs({ allowPositionals: true, options });
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message);
  }
}

/** @param {string} text of an option @param {string} name of it @returns {number} above 0 */
function count(text, name) {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new UsageError(`--${name} must be a whole number above 0, not ${text}`);
}

/** @param {ReturnType<typeof readArguments>} read the command line */
async function main({ values, positionals: [command, ...words] }) {
  if (values.help) return console.log(USAGE);
  if (command === undefined) throw new UsageError("which command?");
  if (!Object.hasOwn(COMMANDS, command)) throw new UsageError(`there is no command ${command}`);
  if (values.against !== undefined && command !== "verify") throw new UsageError("--against is for verify");
  const { key: keys, product, json, against, add = [], remove = [] } = values;
  if (add.length + remove.length > 0 && command !== "keys") throw new UsageError("--add and --remove are for keys");
  const threads = values.threads === undefined ? undefined : count(values.threads, "threads");
  const options = { keys, product, threads, allowUnsigned: values["allow-unsigned"] };
  const top = count(values.top ?? "3", "top");
  process.exitCode = await COMMANDS[command](words, { options, top, json, against, add, remove });
}

// A reader such as `head -1` has seen enough: end as a shell reports a program that SIGPIPE has ended.
process.stdout.on("error", (error) => {
  if (/** @type {any} */ (error).code !== "EPIPE") throw error;
  process.exit(128 + 13);
});

let told = { json: false, debug: false };
try {
  const read = readArguments();
  told = read.values;
  await main(read);
} catch (error) {
  const { name: kind, reason = null, message, stack } = /** @type {any} */ (error);
  if (told.json) printJson({ error: { kind, reason, message } });
  console.error(`fedclip-edge-node: ${reason === null ? "" : `refused (${reason}): `}${printable(message)}`);
  if (error instanceof UsageError) console.error(USAGE);
  if (told.debug) console.error(stack);
  process.exitCode = error instanceof EdgeError ? 2 : 1;
}
