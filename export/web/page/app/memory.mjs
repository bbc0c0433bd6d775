import { BundleError } from "../lib/errors.mjs";
import { cacheSource } from "./source.mjs";

/** What this browser remembers of the site: the highest sequence ever accepted, and the update that came with it. */
export class Memory {
  #key;
  #site;

  /**
   * @param {URL} site address of the page
   * @param {string} product what the page serves
   */
  constructor(site, product) {
    this.#key = `fedclip-edge:${product}:${new URL(".", site).pathname}`;
    this.#site = site;
  }

  /**
   * @returns {number | null} the highest sequence ever accepted here, null before the first
   * @throws {BundleError} `device-state` when the record is damaged
   */
  get sequence() {
    const text = localStorage.getItem(this.#key);
    if (text === null) return null;
    const sequence = Number(text);
    if (text === String(sequence) && Number.isSafeInteger(sequence) && sequence >= 0) return sequence;
    throw new BundleError(
      "device-state",
      "This browser's record of the accepted rounds is damaged: clear this site's data.",
    );
  }

  /**
   * Remember an accepted bundle, and never again accept an older one.
   *
   * @param {import("../lib/bundle.mjs").Bundle} bundle it serves now
   * @returns {Promise<void>} once it is stored
   * @throws {DOMException} when the browser has no room for it, or lets the page store nothing
   */
  async accept(bundle) {
    const { sequence } = bundle.manifest;
    if (bundle.manifest.isUpdate) await this.#keep(bundle);
    if (sequence > (this.sequence ?? -1)) localStorage.setItem(this.#key, String(sequence));
  }

  /**
   * @param {number} sequence of an accepted update
   * @returns {Promise<import("../lib/bundle.mjs").Source>} its files, as far as they are kept
   */
  async update(sequence) {
    return cacheSource(await caches.open(this.#key), this.#folder(sequence));
  }

  #folder(sequence) {
    return new URL(`installed/${sequence}/`, this.#site);
  }

  async #keep({ manifest, raw, signature, head }) {
    const cache = await caches.open(this.#key);
    const older = await cache.keys();
    const { name } = manifest.entries.find((entry) => entry.role === "head");
    for (const [file, bytes] of Object.entries({ "manifest.json": raw, "manifest.sig": signature, [name]: head })) {
      if (bytes !== null) await cache.put(new URL(file, this.#folder(manifest.sequence)), new Response(bytes));
    }
    const here = this.#folder(manifest.sequence).href;
    await Promise.all(older.filter((request) => !request.url.startsWith(here)).map((request) => cache.delete(request)));
  }
}
