// Judges folders as one device would: a JSON job on stdin, on stdout each folder's reason, or null where it is taken,
// and what it says of its golden images.
import { createRequire } from "node:module";
import { text } from "node:stream/consumers";
import { BundleError, EdgeClassifier, FolderStorage, loadKeys, openBundle } from "../../../export/js/node/index.mjs";

const ort = createRequire(new URL("../../../export/js/package.json", import.meta.url))("onnxruntime-node");
const OPTIONS = { logSeverityLevel: 3 };

const { base, folders, keys, product, sequence, runtime, now } = JSON.parse(await text(process.stdin));
const trust = { keys: await loadKeys(keys), product };
const first = await openBundle(new FolderStorage(base), trust, { now });
const serving = await EdgeClassifier.load(ort, first, OPTIONS);
const installed = { sequence, manifest: first.manifest };
const reasons = [];
for (const folder of folders) {
  try {
    const opened = await openBundle(new FolderStorage(folder), trust, { installed, runtime, now });
    const loaded = await EdgeClassifier.load(ort, opened, OPTIONS, serving);
    const answers = [];
    for (const image of opened.manifest.golden.images) {
      const { label, guess, known } = await loaded.predict(image);
      answers.push({ label, guess, known });
    }
    await loaded.retire();
    reasons.push({ reason: null, answers });
  } catch (error) {
    if (!(error instanceof BundleError)) throw error;
    reasons.push({ reason: error.reason, answers: [] });
  }
}
process.stdout.write(JSON.stringify(reasons));
