import { BundleError } from "../lib/errors.mjs";

/**
 * A folder on the web server as a source of bundle files.
 *
 * @param {URL} folder ends with a slash
 * @param {(name: string, loaded: number, total: number) => void} [onProgress] told of bytes as they arrive
 * @returns {import("../lib/bundle.mjs").Source} what `openBundle` reads from
 */
export function webSource(folder, onProgress = () => {}) {
  return {
    names: async () => null,
    read: async (name, limit, exact = false) => {
      const response = await request(new URL(name, folder));
      if (response === null) return null;
      const sink = new Sink(name, limit, exact, onProgress);
      const reader = response.body.getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        if (!sink.fits(part.value)) {
          await reader.cancel();
          sink.refuse();
        }
        sink.add(part.value);
      }
      return sink.bytes();
    },
  };
}

/**
 * Files of an accepted update, kept in the browser's cache storage.
 *
 * @param {Cache} cache where they are
 * @param {URL} folder the key under which they were put
 * @returns {import("../lib/bundle.mjs").Source} what `openBundle` reads from
 */
export function cacheSource(cache, folder) {
  return {
    names: async () => null,
    read: async (name, limit, exact = false) => {
      const response = await cache.match(new URL(name, folder));
      if (response === undefined) return null;
      const bytes = new Uint8Array(await response.arrayBuffer());
      if (bytes.length > limit) throw new BundleError(exact ? "size" : "too-large", `The stored ${name} is too large.`);
      return bytes;
    },
  };
}

async function request(url) {
  let response;
  try {
    response = await fetch(url, { cache: "no-cache", redirect: "error" });
  } catch (error) {
    throw new Error(`${url.pathname} could not be fetched: is this device online? (${error.message})`);
  }
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(`${url.pathname} could not be fetched: the server answered ${response.status}.`);
  return response;
}

/** Collects a download, never more than it may hold. */
class Sink {
  constructor(name, limit, exact, onProgress) {
    Object.assign(this, { name, limit, exact, onProgress, filled: 0 });
    this.buffer = exact ? new Uint8Array(limit) : null;
    this.parts = [];
  }

  fits(part) {
    return this.filled + part.length <= this.limit;
  }

  refuse() {
    throw new BundleError(
      this.exact ? "size" : "too-large",
      `${this.name} has more than ${this.limit} bytes. Publish it again.`,
    );
  }

  add(part) {
    if (this.buffer === null) this.parts.push(part);
    else this.buffer.set(part, this.filled);
    this.filled += part.length;
    if (this.exact) this.onProgress(this.name, this.filled, this.limit);
  }

  bytes() {
    if (this.buffer !== null) return this.buffer.subarray(0, this.filled);
    const whole = new Uint8Array(this.filled);
    let at = 0;
    for (const part of this.parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }
}
