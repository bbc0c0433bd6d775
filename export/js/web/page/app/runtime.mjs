// @ts-expect-error the site has it; see build.mjs
import * as ort from "../ort/ort.wasm.min.mjs";

/** Threads that onnxruntime uses: more than one only where the server isolates the page (see the README). */
export const threads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;

ort.env.wasm.wasmPaths = new URL("../ort/", import.meta.url).href;
ort.env.wasm.numThreads = threads;
ort.env.logLevel = "error";

export { ort };
