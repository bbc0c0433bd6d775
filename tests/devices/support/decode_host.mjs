// Prints height, width and SHA-256 of the RGB that the Node package decodes, one line for each file.
import { createHash } from "node:crypto";
import { decodeFile } from "../../../export/js/node/decode.mjs";

for (const path of process.argv.slice(2)) {
  const { data, height, width } = await decodeFile(path);
  console.log(`${height} ${width} ${createHash("sha256").update(data).digest("hex")}`);
}
