/**
 * Try a built site on this machine: node serve.mjs SITE [--port 8000] [--plain]
 * `--plain` leaves the isolation headers out, as simple web servers do: then onnxruntime uses one thread.
 */
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize, resolve, sep } from "node:path";
import { parseArgs } from "node:util";

const TYPES = /** @type {Record<string, string>} */ ({
  ".html": "text/html; charset=utf-8",
  ".css": "text/css",
  ".mjs": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
});
const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

/** @param {string} root of the site @param {string} url that was asked for @returns {string | null} path of the file */
function fileFor(root, url) {
  try {
    const path = normalize(decodeURIComponent(new URL(url, "http://localhost").pathname));
    const file = join(root, path.endsWith(sep) ? join(path, "index.html") : path);
    return file.startsWith(root + sep) && statSync(file, { throwIfNoEntry: false })?.isFile() ? file : null;
  } catch (error) {
    if (!(error instanceof URIError)) throw error; // a malformed address is simply not found
    return null;
  }
}

const options = /** @type {const} */ ({
  port: { type: "string", multiple: false, default: "8000" },
  plain: { type: "boolean" },
});
const { values, positionals } = parseArgs({ allowPositionals: true, options });
if (positionals.length !== 1 || !/^[0-9]{1,5}$/.test(values.port)) {
  console.error("use: node serve.mjs SITE [--port 8000] [--plain]");
  process.exit(2);
}
const root = resolve(positionals[0]);
const isolation = values.plain ? {} : ISOLATION;
const headers = { "x-content-type-options": "nosniff", "cache-control": "no-cache", ...isolation };
const server = createServer((request, response) => {
  const file = fileFor(root, request.url ?? "/");
  if (file === null) return response.writeHead(404, headers).end();
  const type = TYPES[extname(file)] ?? "application/octet-stream";
  response.writeHead(200, { ...headers, "content-type": type, "content-length": statSync(file).size });
  return createReadStream(file).pipe(response);
});
server.listen(Number(values.port), "127.0.0.1", () => {
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  console.log(`http://localhost:${port}/`);
});
