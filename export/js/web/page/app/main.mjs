import { versionOf } from "../lib/sessions.mjs";
import { decodeBlob } from "./decode.mjs";
import { ort, threads } from "./runtime.mjs";
import { Site } from "./site.mjs";
import * as view from "./view.mjs";

/** @typedef {{image: import("../lib/edge-classifier.mjs").RgbImage, decoding: number, mine: number}} Picture */

let latest = 0;
/** @type {Picture | null} */
let shown = null;

async function start() {
  try {
    const used = `${threads} ${threads === 1 ? "thread" : "threads"}`;
    view.find("host").textContent = `onnxruntime-web ${versionOf(ort)}, ${used}`;
    const site = await Site.open(ort, new URL("./", document.baseURI), view.showProgress);
    view.showModel(site.device.serving);
    view.showReady();
    const [warning] = [...site.warnings, ...site.device.warnings].filter((text) => !text.startsWith("signature"));
    if (warning) view.showNews(warning, true);
    listen(site);
  } catch (error) {
    view.find("loading").hidden = true; // the page stays closed to pictures
    view.showProblem(error);
  }
}

/** @param {Site} site that serves */
function listen(site) {
  const see = (files) => files?.[0] && look(site, files[0]);
  for (const input of document.querySelectorAll("input"))
    input.addEventListener("change", () => {
      see(input.files);
      input.value = ""; // the same file may be chosen again
    });
  document.addEventListener("paste", ({ clipboardData }) => see(clipboardData?.files));
  for (const type of /** @type {const} */ (["dragover", "dragleave", "drop"]))
    document.addEventListener(type, (event) => {
      event.preventDefault();
      const over = type === "dragover" || (type === "dragleave" && event.relatedTarget !== null);
      view.find("frame").classList.toggle("over", over);
      if (type === "drop") see(event.dataTransfer?.files);
    });
  view.find("check").addEventListener("click", () => check(site));
}

/** @param {Site} site that serves @param {Blob} blob the file to classify */
async function look(site, blob) {
  latest += 1;
  const mine = latest;
  view.showProblem(null);
  view.clearAnswer();
  view.showPicture(blob);
  await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  try {
    const begin = performance.now();
    const image = await decodeBlob(blob);
    await answer(site, { image, decoding: performance.now() - begin, mine });
  } catch (error) {
    if (mine !== latest) return;
    shown = null;
    view.showHeadline("");
    view.showPicture(null);
    view.showProblem(error);
  }
}

/** @param {Site} site that serves @param {Picture} picture decoded */
async function answer(site, picture) {
  const prediction = await site.device.predict(picture.image);
  if (picture.mine !== latest) return; // another picture was chosen meanwhile
  shown = picture;
  view.showAnswer(prediction, picture.decoding);
}

/** @param {Site} site to look for a newer round */
async function check(site) {
  view.showChecking(true);
  try {
    const change = await site.update();
    if (change === null) view.showNews("No newer round has been published.");
    else {
      view.showNews(`Round ${change.round} serves now. It took ${Math.ceil(change.milliseconds)} ms to put in place.`);
      if (shown !== null) await answer(site, shown);
    }
  } catch (error) {
    const newest = /** @type {any} */ (error).reason === "replay";
    view.showNews(newest ? "You have the newest round." : `Not updated: ${view.explain(error)}`, !newest);
  } finally {
    view.showModel(site.device.serving); // another tab may have been first
    view.showChecking(false);
  }
}

await start();
