// Answers one question of the tests with the Node package: a JSON job on stdin, its answer on stdout.
import { cp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";
import {
  BundleError,
  decodeFile,
  Device,
  EdgeClassifier,
  folderDevice,
  FolderStorage,
  loadBundle,
  loadKeys,
  openBundle,
} from "../../../export/js/node/index.mjs";

const ort = createRequire(new URL("../../../export/js/package.json", import.meta.url))("onnxruntime-node");
const OPTIONS = { logSeverityLevel: 3 };

const ACTIONS = {
  async predict({ folder, keys, images }) {
    const begin = performance.now();
    const serving = await loadBundle(folder, { keys });
    const load = performance.now() - begin;
    const golden = [];
    for (const image of serving.manifest.golden.images) golden.push(await answer(serving, image));
    const files = [];
    for (const image of images) files.push(await answer(serving, await decodeFile(image)));
    return { load, golden, files, keyId: serving.keyId, round: serving.manifest.round };
  },

  async swaps({ folder, updates, keys, times }) {
    const trust = { keys: await loadKeys(keys), product: "fedclip" };
    const base = await openBundle(new FolderStorage(folder), trust);
    let serving = await EdgeClassifier.load(ort, base, OPTIONS);
    const rounds = [base];
    const installed = { sequence: base.manifest.sequence, manifest: base.manifest };
    for (const update of updates) rounds.push(await openBundle(new FolderStorage(update), trust, { installed }));
    const image = base.manifest.golden.images[0];
    const seen = [];
    let going = true;
    const serve = async () => {
      while (going) {
        const { sequence, logits } = await serving.predict(image);
        seen.push({ sequence, logits: [...logits] });
      }
    };
    const busy = [serve(), serve()];
    const took = [];
    for (let at = 1; at <= times; at += 1) {
      const begin = performance.now();
      const old = serving;
      serving = await EdgeClassifier.load(ort, rounds[at % rounds.length], OPTIONS, old);
      await old.retire();
      took.push(performance.now() - begin);
    }
    going = false;
    await Promise.all(busy);
    return { seen, took };
  },

  /** One program serves while another one updates the same folder. */
  async reload({ folder, sources }) {
    const [serving, other] = [await folderDevice(folder), await folderDevice(folder)];
    await serving.open();
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
      await other.update(new FolderStorage(source));
      const { oldRound, round, encoderReplaced } = await serving.open();
      changes.push([oldRound, round, encoderReplaced]);
      sequences.push((await serving.predict(image)).sequence);
    }
    const again = await serving.open();
    const rolledBack = [(await other.rollback()).sequence, (await serving.open()).sequence];
    going = false;
    await busy;
    return { sequences, changes, again, rolledBack, answers: Object.values(answers).map((seen) => seen.size) };
  },

  /** The power is cut before every step of an update in turn: what serves afterwards, and after another try. */
  async cuts({ folder, source, key }) {
    const keys = await loadKeys([key]);
    const told = [];
    for (let steps = 0, done = false; !done; steps += 1) {
      const place = `${folder}-${steps}`;
      await cp(folder, place, { recursive: true });
      const device = new Device(ort, new Cut(place, steps), { keys, session: OPTIONS });
      const serving = [];
      try {
        await device.update(new FolderStorage(source));
        done = true;
      } catch (error) {
        if (error.reason !== "device-state") throw error;
      }
      for (const again of [false, true]) {
        const restarted = new Device(ort, new FolderStorage(place), { keys, session: OPTIONS });
        if (again) await restarted.update(new FolderStorage(source)).catch((error) => serving.push(error.reason));
        if (again || (await restarted.exists())) await restarted.open().catch((error) => serving.push(error.reason));
        serving.push(restarted.serves ? restarted.manifest.sequence : null);
      }
      told.push(serving);
      await rm(place, { recursive: true });
    }
    return told;
  },

  async attacks({ cases, base, key, now, runtime }) {
    const trust = { keys: await loadKeys([key]), product: "fedclip" };
    const device = await openBundle(new FolderStorage(base), trust, { now, runtime });
    const installed = { sequence: device.manifest.sequence, manifest: device.manifest };
    const serving = await EdgeClassifier.load(ort, device, OPTIONS);
    const reasons = {};
    for (const { name, folder } of cases) {
      reasons[name] = await reasonOf(async () => {
        const bundle = await openBundle(new FolderStorage(folder), trust, { installed, now, runtime });
        await (await EdgeClassifier.load(ort, bundle, OPTIONS, bundle.base === null ? serving : null)).retire();
      });
    }
    return reasons;
  },
};

/** A folder whose power is cut: from the n-th step on, nothing is written or removed any more. */
class Cut extends FolderStorage {
  constructor(folder, steps) {
    super(folder);
    this.steps = steps;
  }

  async write(name, bytes) {
    this.count();
    return super.write(name, bytes);
  }

  async remove(name) {
    this.count();
    return super.remove(name);
  }

  count() {
    this.steps -= 1;
    if (this.steps < 0) throw new Error("the power was cut");
  }
}

async function answer(serving, image) {
  const { label, guess, known, logits, milliseconds } = await serving.predict(image);
  return { label, guess, known, logits: [...logits], milliseconds };
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
