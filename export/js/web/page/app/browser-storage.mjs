import { STATE } from "../lib/device-state.mjs";

/**
 * What this browser keeps of the page: the records in `localStorage`, where they are replaced in one step, and files in
 * the cache storage. The storage of a device.
 */
export class BrowserStorage {
  #key;
  #folder;

  /** @param {URL} site address of the page @param {string} product what the page serves */
  constructor(site, product) {
    this.#key = `fedclip-edge:${product}:${site.pathname}`;
    this.#folder = new URL("stored/", site);
    /** @type {string} what messages call it */
    this.place = "this browser's storage of the page";
  }

  /**
   * @param {string} name of a file
   * @param {number} limit bytes
   * @returns {Promise<Uint8Array<ArrayBuffer> | null>} its first `limit` + 1 bytes, null when there is none
   */
  async read(name, limit) {
    if (name === STATE) {
      const text = localStorage.getItem(this.#key);
      return text === null ? null : new TextEncoder().encode(text);
    }
    const response = await (await this.#cache()).match(new URL(name, this.#folder));
    return response === undefined ? null : new Uint8Array(await response.arrayBuffer()).subarray(0, limit + 1);
  }

  /**
   * @param {string} name of a file
   * @param {Uint8Array<ArrayBuffer>} bytes its content
   * @throws {DOMException} when the browser has no room for it, or lets the page store nothing
   */
  async write(name, bytes) {
    if (name === STATE) localStorage.setItem(this.#key, new TextDecoder().decode(bytes));
    else await (await this.#cache()).put(new URL(name, this.#folder), new Response(bytes));
  }

  /** @returns {Promise<string[]>} names at the top */
  async list() {
    const names = (await this.#names()).map((name) => name.split("/")[0]);
    return [...new Set(localStorage.getItem(this.#key) === null ? names : [STATE, ...names])];
  }

  /** @param {string} name of a file or a folder */
  async remove(name) {
    const cache = await this.#cache();
    const gone = (await this.#names()).filter((one) => one === name || one.startsWith(`${name}/`));
    await Promise.all(gone.map((one) => cache.delete(new URL(one, this.#folder))));
  }

  #cache() {
    return caches.open(this.#key);
  }

  async #names() {
    const requests = await (await this.#cache()).keys();
    return requests.map(({ url }) => url.slice(this.#folder.href.length));
  }
}
