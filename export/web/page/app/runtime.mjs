import * as ort from "../ort/ort.wasm.min.mjs";

const MOST_THREADS = 4;

/** Threads that onnxruntime uses: more than one only where the server isolates the page (see the README). */
export const threads = globalThis.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;

ort.env.wasm.wasmPaths = new URL("../ort/", import.meta.url).href;
ort.env.wasm.numThreads = threads;
ort.env.logLevel = "error";

export { ort };
