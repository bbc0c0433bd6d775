import { Device } from "../lib/device.mjs";
import { BundleError } from "../lib/errors.mjs";
import { loadPublicKey } from "../lib/keys.mjs";
import { MAX_MANIFEST } from "../lib/signed-manifest.mjs";
import { BrowserStorage } from "./browser-storage.mjs";
import { fetchText, webSource } from "./web-source.mjs";

/** @typedef {import("../lib/keys.mjs").PublicKey} PublicKey */

const NOTHING_NEWER = ["replay", "rollback"];

/** This page as a device: heads in the browser's storage, the encoder from the site, and the way to newer rounds. */
export class Site {
  #bundle;
  #update;

  /**
   * `open` makes one.
   *
   * @param {Device} device of this page
   * @param {import("../lib/signed-manifest.mjs").Source} bundle that the site offers
   * @param {import("../lib/signed-manifest.mjs").Source} update that the site offers, if it does
   */
  constructor(device, bundle, update) {
    this.#bundle = bundle;
    this.#update = update;
    /** @type {Device} what serves */
    this.device = device;
    /** @type {string[]} what the user should know, beside the device's own warnings */
    this.warnings = [];
  }

  /**
   * Verify and start the round that this browser has accepted, or the site's bundle when it is newer or the first.
   *
   * @param {any} ort the onnxruntime-web module
   * @param {URL} folder address of the site
   * @param {(name: string, loaded: number, total: number) => void} [onProgress] told of bytes as they arrive
   */
  static async open(ort, folder, onProgress) {
    const { product, keys: names } = JSON.parse(await fetchText(new URL("site.json", folder)));
    const pems = await Promise.all(names.map((name) => fetchText(new URL(name, folder))));
    const keys = await Promise.all(pems.map(loadPublicKey));
    const bundle = webSource(new URL("bundle/", folder), onProgress);
    const trust = { keys, product, allowUnsigned: keys.length === 0 };
    const session = { logSeverityLevel: 3 };
    const device = new Device(ort, new BrowserStorage(folder, product), { ...trust, session, base: bundle });
    await takeKeys(device, keys, `fedclip-edge-keys:${product}:${folder.pathname}`);
    const site = new Site(device, bundle, webSource(new URL("update/", folder)));
    await site.#start();
    return site;
  }

  /**
   * Look for a newer round beside the bundle, verify it and let it serve.
   *
   * @returns {Promise<import("../lib/device.mjs").Change | null>} what serves now, null when none is published
   * @throws {BundleError} `replay` when it is the one that serves, else why it is refused; the old one goes on serving
   */
  async update() {
    if ((await this.#update.read("manifest.json", MAX_MANIFEST)) === null) return null;
    this.warnings = [];
    return this.device.update(this.#update);
  }

  async #start() {
    const fault = (await this.device.exists()) ? await refusalOf(() => this.device.open()) : null;
    if (fault !== null && (await refusalOf(() => this.device.update(this.#update))) === null) return;
    const refusal = await refusalOf(() => this.device.update(this.#bundle));
    if (refusal === null) return;
    if (fault !== null || !this.device.serves) throw refusal;
    if (!NOTHING_NEWER.includes(refusal.reason)) this.warnings = [`A newer bundle is refused: ${refusal.message}`];
  }
}

/**
 * Keys that the site names newly count from now on, those that it names no longer do not; announced ones stay.
 *
 * @param {Device} device of this page
 * @param {readonly PublicKey[]} keys that the site names
 * @param {string} record where this browser remembers which they were
 */
async function takeKeys(device, keys, record) {
  const ids = keys.map(({ id }) => id);
  if ((await device.exists()) && keys.length > 0) {
    const held = await device.keys();
    const before = JSON.parse(localStorage.getItem(record) ?? "[]");
    const gone = held.filter((id) => before.includes(id) && !ids.includes(id));
    if (gone.length > 0 || ids.some((id) => !held.includes(id))) await device.changeKeys(keys, gone);
  }
  localStorage.setItem(record, JSON.stringify(ids));
}

/** @param {() => Promise<unknown>} action @returns {Promise<BundleError | null>} why it was refused, if it was */
async function refusalOf(action) {
  try {
    await action();
    return null;
  } catch (error) {
    if (!(error instanceof BundleError)) throw error;
    return error;
  }
}
