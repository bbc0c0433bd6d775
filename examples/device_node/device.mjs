// Install a signed bundle, label an image, take an update: node device.mjs BUNDLE KEY UPDATE IMAGE
// Needs Node 20, and once: cd export/js && ONNXRUNTIME_NODE_INSTALL=skip npm ci
import { BundleError, decodeFile, folderDevice, FolderStorage } from "../../export/js/node/index.mjs";

const [bundle, key, update, image] = process.argv.slice(2);
const device = await folderDevice("device-node", { keys: [key] });
await device.update(new FolderStorage(bundle)); // once; the key is enforced from then on
const tell = async () => {
  const { round, label, probability } = await device.predict(await decodeFile(image));
  console.log(`round ${round}: ${label} ${probability.toFixed(3)}`);
};
await tell();
try {
  await device.update(new FolderStorage(update));
} catch (error) {
  if (!(error instanceof BundleError)) throw error;
  console.error(`refused (${error.reason}): ${error.message}`); // the round before goes on serving
  process.exit(1);
}
await tell();
