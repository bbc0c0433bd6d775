import { decodeBlob } from "./decode.mjs";
import { Device } from "./device.mjs";
import { ort, threads } from "./runtime.mjs";
import * as view from "./view.mjs";

let latest = 0;
let shown = null;

async function start() {
  try {
    view.showHost(ort.env.versions.web ?? ort.env.versions.common, threads);
    const device = await Device.open(ort, new URL("./", document.baseURI), view.showProgress);
    view.showModel(device.classifier.manifest, device.classifier.keyId);
    view.showReady();
    if (device.warning !== null) view.showNews(device.warning, true);
    listen(device);
  } catch (error) {
    view.showRefusal(error);
  }
}

function listen(device) {
  const see = (blob) => blob && look(device, blob);
  for (const id of ["choose", "take"]) {
    document.getElementById(id).addEventListener("change", ({ target }) => {
      see(target.files[0]);
      target.value = ""; // the same file may be chosen again
    });
  }
  document.addEventListener("paste", ({ clipboardData }) => see(clipboardData.files[0]));
  listenToDrops(see);
  document.getElementById("check").addEventListener("click", () => check(device));
}

function listenToDrops(see) {
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    view.showDropTarget(true);
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => view.showDropTarget(relatedTarget !== null));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    view.showDropTarget(false);
    see(event.dataTransfer.files[0]);
  });
}

async function look(device, blob) {
  latest += 1;
  const mine = latest;
  view.showProblem(null);
  view.clearAnswer();
  view.showPicture(blob);
  await nextFrame();
  try {
    const begin = performance.now();
    const image = await decodeBlob(blob);
    await answer(device, { image, decoding: performance.now() - begin, mine });
  } catch (error) {
    if (mine !== latest) return;
    shown = null;
    view.showHeadline("");
    view.hidePicture();
    view.showProblem(error);
  }
}

async function answer(device, picture) {
  const prediction = await device.classifier.predict(picture.image);
  if (picture.mine !== latest) return; // another picture was chosen meanwhile
  shown = picture;
  view.showAnswer(prediction, picture.decoding);
}

async function check(device) {
  view.showChecking(true);
  try {
    const change = await device.update();
    if (change === null) {
      view.showNews("No newer round has been published.");
      return;
    }
    view.showModel(device.classifier.manifest, device.classifier.keyId);
    view.showNews(`Round ${change.round} serves now. It took ${Math.ceil(change.milliseconds)} ms to put in place.`);
    if (shown !== null) await answer(device, shown);
  } catch (error) {
    const newest = error.reason === "replay";
    view.showNews(newest ? "You have the newest round." : `Not updated: ${view.explain(error)}`, !newest);
  } finally {
    view.showChecking(false);
  }
}

const nextFrame = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

await start();
