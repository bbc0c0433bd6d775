/**
 * Try a built site on this machine: node serve.mjs SITE [--port 8000] [--plain]
 * `--plain` leaves the isolation headers out, as simple web servers do: then onnxruntime uses one thread.
 */
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize, resolve, sep } from "node:path";
import { parseArgs } from "node:util";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css",
  ".mjs": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};
const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

function fileFor(root, url) {
  const path = normalize(decodeURIComponent(new URL(url, "http://localhost").pathname));
  const file = join(root, path.endsWith(sep) ? join(path, "index.html") : path);
  const found = file.startsWith(root + sep) ? statSync(file, { throwIfNoEntry: false }) : undefined;
  return found?.isFile() ? { file, size: found.size } : null;
}

function answer(root, headers, request, response) {
  let found = null;
  try {
    found = fileFor(root, request.url);
  } catch (error) {
    if (!(error instanceof URIError)) throw error; // a malformed address is simply not found
  }
  if (found === null) {
    response.writeHead(404, headers).end();
    return;
  }
  const type = TYPES[extname(found.file)] ?? "application/octet-stream";
  response.writeHead(200, {
    ...headers,
    "content-type": type,
    "content-length": found.size,
    "cache-control": "no-cache",
  });
  createReadStream(found.file).pipe(response);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { port: { type: "string", default: "8000" }, plain: { type: "boolean", default: false } },
});
if (positionals.length !== 1 || !/^[0-9]{1,5}$/.test(values.port)) {
  console.error("use: node serve.mjs SITE [--port 8000] [--plain]");
  process.exit(2);
}
const headers = { "x-content-type-options": "nosniff", ...(values.plain ? {} : ISOLATION) };
const server = createServer((request, response) => answer(resolve(positionals[0]), headers, request, response));
server.listen(Number(values.port), "127.0.0.1", () => console.log(`http://localhost:${server.address().port}/`));
