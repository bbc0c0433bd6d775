// Answers one question of the tests with the Node package: a JSON job on stdin, its answer on stdout.
import { text } from "node:stream/consumers";
import { createRequire } from "node:module";
import {
  BundleError,
  decodeFile,
  Edge,
  EdgeClassifier,
  folderSource,
  loadKeys,
  openBundle,
} from "../../export/node/lib/index.mjs";
import { parse } from "../../export/node/lib/canonical.mjs";
import { guardGraph } from "../../export/node/lib/graph-guard.mjs";
import { parseManifest } from "../../export/node/lib/manifest.mjs";

const ort = createRequire(new URL("../../export/node/package.json", import.meta.url))("onnxruntime-node");
const OPTIONS = { logSeverityLevel: 3 };

const ACTIONS = {
  async predict({ folder, keys, images }) {
    const begin = performance.now();
    const edge = await Edge.open(folder, { keys });
    const load = performance.now() - begin;
    const golden = [];
    for (const image of edge.manifest.golden.images) golden.push(await answer(edge, image));
    const files = [];
    for (const image of images) files.push(await answer(edge, await decodeFile(image)));
    return { load, golden, files, keyId: edge.keyId, round: edge.manifest.round };
  },

  async swaps({ folder, updates, keys, times }) {
    const trust = { keys: await loadKeys(keys) };
    const base = await openBundle(folderSource(folder), trust);
    const classifier = await EdgeClassifier.create(ort, base, OPTIONS);
    const rounds = [base];
    for (const update of updates)
      rounds.push(await openBundle(folderSource(update), trust, { installed: base.installed }));
    const image = base.manifest.golden.images[0];
    const seen = [];
    let going = true;
    const serve = async () => {
      while (going) {
        const { sequence, logits } = await classifier.predict(image);
        seen.push({ sequence, logits: [...logits] });
      }
    };
    const serving = [serve(), serve()];
    const took = [];
    for (let at = 1; at <= times; at += 1)
      took.push((await classifier.update(rounds[at % rounds.length])).milliseconds);
    going = false;
    await Promise.all(serving);
    return { seen, took };
  },

  /** One program serves while another one updates the same folder. */
  async reload({ folder, sources }) {
    const [serving, other] = [await Edge.open(folder), await Edge.open(folder)];
    const image = serving.manifest.golden.images[0];
    const sequences = [(await serving.predict(image)).sequence];
    const answers = {};
    let going = true;
    const busy = (async () => {
      while (going) {
        const { sequence, logits } = await serving.predict(image);
        (answers[sequence] ??= new Set()).add(logits.join());
      }
    })();
    const changes = [];
    for (const source of sources) {
      await other.update(source);
      const { oldRound, round, encoderReplaced } = await serving.reload();
      changes.push([oldRound, round, encoderReplaced]);
      sequences.push((await serving.predict(image)).sequence);
    }
    const again = await serving.reload();
    const rolledBack = [(await other.rollback()).sequence, (await serving.reload()).sequence];
    going = false;
    await busy;
    return { sequences, changes, again, rolledBack, answers: Object.values(answers).map((seen) => seen.size) };
  },

  async attacks({ cases, base, key, now, runtime }) {
    const trust = { keys: await loadKeys([key]) };
    const device = await openBundle(folderSource(base), trust, { now, runtime });
    const reasons = {};
    for (const { name, folder } of cases) {
      reasons[name] = await reasonOf(async () => {
        const bundle = await openBundle(folderSource(folder), trust, { installed: device.installed, now, runtime });
        if (!bundle.manifest.isUpdate) return EdgeClassifier.create(ort, bundle, OPTIONS);
        return (await EdgeClassifier.create(ort, device, OPTIONS)).update(bundle);
      });
    }
    return reasons;
  },

  async parse({ texts }) {
    return Promise.all(decode(texts).map((raw) => reasonOf(async () => parse(raw))));
  },

  async manifests({ texts }) {
    return Promise.all(decode(texts).map((raw) => reasonOf(async () => parseManifest(raw))));
  },

  async heads({ texts, manifest }) {
    const checked = parseManifest(decode([manifest])[0]);
    return Promise.all(decode(texts).map((raw) => reasonOf(async () => guardGraph("head", raw, checked))));
  },
};

const decode = (texts) => texts.map((text) => Uint8Array.from(Buffer.from(text, "base64")));

async function answer(edge, image) {
  const { label, logits, milliseconds } = await edge.predict(image);
  return { label, logits: [...logits], milliseconds };
}

async function reasonOf(action) {
  try {
    await action();
    return null;
  } catch (error) {
    if (error instanceof BundleError) return error.reason;
    throw error;
  }
}

const job = JSON.parse(await text(process.stdin));
process.stdout.write(JSON.stringify(await ACTIONS[job.action](job)));
