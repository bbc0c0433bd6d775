/**
 * A folder on the web server as a source of bundle files.
 *
 * @param {URL} folder ends with a slash
 * @param {(name: string, loaded: number, total: number) => void} [onProgress] told of bytes as they arrive
 * @returns {import("../lib/signed-manifest.mjs").Source} what `openBundle` reads from
 */
export function webSource(folder, onProgress = () => {}) {
  return {
    list: async () => null,
    read: async (name, limit) => {
      const response = await request(new URL(name, folder));
      if (response === null) return null;
      const bytes = new Uint8Array(limit + 1);
      let filled = 0;
      const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
      for (let part = await reader.read(); !part.done && filled <= limit; part = await reader.read()) {
        const fitting = part.value.subarray(0, bytes.length - filled);
        bytes.set(fitting, filled);
        filled += fitting.length;
        onProgress(name, filled, limit);
      }
      await reader.cancel();
      return bytes.subarray(0, filled);
    },
  };
}

/** @param {URL} url of a small file of the site */
export async function fetchText(url) {
  const response = await request(url);
  if (response === null) throw new Error(`${url.pathname} is missing on the server.`);
  return response.text();
}

/** @param {URL} url of a file @returns {Promise<Response | null>} null when there is none */
async function request(url) {
  const response = await fetch(url, { cache: "no-cache", redirect: "error" }).catch((error) => {
    throw new Error(`${url.pathname} could not be fetched: is this device online? (${error.message})`);
  });
  if (response.status === 404) return null;
  if (!response.ok) throw new Error(`${url.pathname} could not be fetched: the server answered ${response.status}.`);
  return response;
}
