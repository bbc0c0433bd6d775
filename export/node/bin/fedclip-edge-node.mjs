#!/usr/bin/env node
import { parseArgs } from "node:util";
import { COMMANDS, printJson, USAGE, UsageError } from "../lib/commands.mjs";
import { EdgeError } from "../lib/errors.mjs";
import { printable } from "../lib/text.mjs";

const OPTIONS = {
  key: { type: "string", multiple: true, default: [] },
  product: { type: "string", default: "fedclip" },
  threads: { type: "string" },
  top: { type: "string", default: "3" },
  against: { type: "string" },
  json: { type: "boolean", default: false },
  debug: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
};

function readArguments() {
  try {
    return parseArgs({ allowPositionals: true, options: OPTIONS });
  } catch (error) {
    throw new UsageError(error.message);
  }
}

function count(text, name) {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new UsageError(`--${name} must be a whole number above 0, not ${text}`);
}

async function main({ values, positionals: [command, ...words] }) {
  if (values.help) return console.log(USAGE);
  if (command === undefined) throw new UsageError("which command?");
  if (!Object.hasOwn(COMMANDS, command)) throw new UsageError(`there is no command ${command}`);
  if (values.against !== undefined && command !== "verify") throw new UsageError("--against is for verify");
  const { key: keys, product, json, against } = values;
  const threads = values.threads === undefined ? undefined : count(values.threads, "threads");
  const settings = { options: { keys, product, threads }, top: count(values.top, "top"), json, against };
  process.exitCode = await COMMANDS[command](words, settings);
}

function report(error, { json, debug }) {
  const { name: kind, reason = null, message } = error;
  if (json) printJson({ error: { kind, reason, message } });
  console.error(`fedclip-edge-node: ${reason === null ? "" : `refused (${reason}): `}${printable(message)}`);
  if (error instanceof UsageError) console.error(USAGE);
  if (debug) console.error(error.stack);
  process.exitCode = error instanceof EdgeError ? 2 : 1;
}

// A reader such as `head -1` has seen enough: end as a shell reports a program that SIGPIPE has ended.
process.stdout.on("error", (error) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(128 + 13);
});

let told = { json: false, debug: false };
try {
  const read = readArguments();
  told = read.values;
  await main(read);
} catch (error) {
  report(error, told);
}
