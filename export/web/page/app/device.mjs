import { loadPublicKey, MAX_MANIFEST, openBundle } from "../lib/bundle.mjs";
import { EdgeClassifier } from "../lib/classifier.mjs";
import { BundleError } from "../lib/errors.mjs";
import { checkTime, expiryWarning } from "../lib/policy.mjs";
import { Memory } from "./memory.mjs";
import { webSource } from "./source.mjs";

const seconds = () => Date.now() / 1000;

/** This page as a device: a verified bundle that serves, and its way to newer rounds. */
export class Device {
  #folder;
  #trust;
  #memory;
  #runtime;

  constructor({ folder, trust, memory, runtime, classifier, warning }) {
    this.#folder = folder;
    this.#trust = trust;
    this.#memory = memory;
    this.#runtime = runtime;
    /** @type {EdgeClassifier} what serves */
    this.classifier = classifier;
    /** @type {string | null} what the user should know about the installed round */
    this.warning = warning;
  }

  /**
   * Fetch, verify and start the site's bundle; when this browser has accepted a newer round, that one serves.
   *
   * @param {object} ort the onnxruntime-web module
   * @param {URL} folder address of the site
   * @param {(name: string, loaded: number, total: number) => void} [onProgress] told of bytes as they arrive
   * @returns {Promise<Device>} ready to predict
   * @throws {BundleError} with the reason why the bundle is refused
   */
  static async open(ort, folder, onProgress) {
    const site = await fetchJson(new URL("site.json", folder));
    const pems = await Promise.all(site.keys.map((key) => fetchText(new URL(key, folder))));
    const trust = { product: site.product, keys: await Promise.all(pems.map(loadPublicKey)) };
    const memory = new Memory(folder, site.product);
    const parts = { folder, trust, memory, runtime: ort.env.versions.web ?? ort.env.versions.common };
    const highest = memory.sequence;
    const base = await openBundle(webSource(new URL("bundle/", folder), onProgress), trust, {
      runtime: parts.runtime,
      now: null,
    });
    const newest = await chooseRound(base, highest, parts);
    const classifier = await EdgeClassifier.create(ort, base, { logSeverityLevel: 3 });
    if (newest !== base) await classifier.update(newest);
    if (highest === null || newest.manifest.sequence > highest) await memory.accept(newest);
    return new Device({ ...parts, classifier, warning: expiryWarning(newest.manifest) });
  }

  /**
   * Look for a newer round beside the bundle, verify it and let it serve.
   *
   * @returns {Promise<{round: number, sequence: number, milliseconds: number} | null>} what serves now, and the time it
   *   took; null when none is published
   * @throws {BundleError} `replay` when it is the one that serves, else why it is refused; the old one goes on serving
   */
  async update() {
    const source = webSource(new URL("update/", this.#folder));
    if ((await source.read("manifest.json", MAX_MANIFEST)) === null) return null;
    const { installed } = this.classifier;
    const highest = this.#memory.sequence ?? installed.sequence;
    const floor = highest > installed.sequence ? highest - 1 : highest; // another tab may have been first
    const here = { installed: { ...installed, sequence: floor }, runtime: this.#runtime };
    const bundle = await openBundle(source, this.#trust, here);
    const change = await this.classifier.update(bundle, () => this.#memory.accept(bundle));
    this.warning = null;
    return change;
  }
}

async function chooseRound(base, highest, { folder, trust, memory, runtime }) {
  const { sequence } = base.manifest;
  if (highest === null || sequence > highest) checkTime(base.manifest, seconds());
  if (highest === null || sequence >= highest) return base;
  const here = { installed: { ...base.installed, sequence: highest - 1 }, runtime, now: null };
  for (const source of [await memory.update(highest), webSource(new URL("update/", folder))]) {
    try {
      return await openBundle(source, trust, here);
    } catch (error) {
      if (!(error instanceof BundleError)) throw error;
      console.warn(`Not used (${error.reason}): ${error.message}`);
    }
  }
  throw new BundleError(
    "rollback",
    `The site offers sequence ${sequence}, but this browser has accepted ${highest} before` +
      " and no longer holds it. Publish that round, or a newer one.",
  );
}

async function fetchText(url) {
  const response = await fetch(url, { cache: "no-cache", redirect: "error" });
  if (!response.ok) throw new Error(`${url.pathname} could not be fetched: the server answered ${response.status}.`);
  return response.text();
}

async function fetchJson(url) {
  return JSON.parse(await fetchText(url));
}
