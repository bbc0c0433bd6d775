// Answers one question of the tests with headless Chromium on a built site: a JSON job on stdin, its answer on stdout.
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { pageActions } from "./chromium_page.mjs";

const PACKAGE = new URL("../../../export/js/", import.meta.url);
const { chromium } = createRequire(new URL("package.json", PACKAGE))("playwright-core");
const SERVER = fileURLToPath(new URL("web/serve.mjs", PACKAGE));
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu"];

const ACTIONS = {
  ...pageActions,

  async predict({ browser, address, job }) {
    const page = await blankPage(browser, address);
    return page.evaluate(
      async ({ images }) => {
        const { Site } = await import("./app/site.mjs");
        const { decodeBlob } = await import("./app/decode.mjs");
        const { ort, threads } = await import("./app/runtime.mjs");
        const begin = performance.now();
        const { device } = await Site.open(ort, new URL("./", location.href));
        const load = performance.now() - begin;
        const answer = async (image) => {
          const { label, guess, known, logits, milliseconds } = await device.predict(image);
          return { label, guess, known, logits: [...logits], milliseconds };
        };
        const golden = [];
        for (const image of device.manifest.golden.images) golden.push(await answer(image));
        const files = [];
        for (const image of images) files.push(await answer(await decodeBlob(await (await fetch(image)).blob())));
        return { load, threads, golden, files, keyId: device.serving.keyId, round: device.manifest.round };
      },
      { images: job.images },
    );
  },

  async attacks({ browser, address, job }) {
    const reasons = {};
    const page = await blankPage(browser, address);
    await page.clock.setFixedTime(1000 * job.now);
    for (const { name, folder, victim } of job.cases) {
      reasons[name] = await page.evaluate(
        async ({ folder, victim }) => {
          const { Site } = await import("./app/site.mjs");
          const { ort } = await import("./app/runtime.mjs");
          const open = () => Site.open(ort, new URL(`${folder}/`, location.href));
          const site = victim === "update" ? await open() : null;
          try {
            const done = await (site === null ? open() : site.update());
            return done === null ? "none published" : null;
          } catch (error) {
            return error.reason ?? String(error);
          }
        },
        { folder, victim },
      );
    }
    return reasons;
  },
};

// A page of the site's origin and policy that does not start the application.
async function blankPage(browser, address) {
  const page = await (await browser.newContext()).newPage();
  await page.route("**/app/main.mjs", (route) => route.fulfill({ contentType: "text/javascript", body: "" }));
  await page.goto(address);
  return page;
}

async function serve(site, plain) {
  const server = spawn(process.execPath, [SERVER, site, "--port", "0", ...(plain ? ["--plain"] : [])], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const lines = createInterface({ input: server.stdout });
  for await (const address of lines) return { server, address };
  throw new Error("serve.mjs said no address");
}

const job = JSON.parse(await text(process.stdin));
const { server, address } = await serve(job.site, job.plain);
const browser = await chromium.launch({ executablePath: job.chromium, headless: true, args: FLAGS });
try {
  mkdirSync(job.artefacts, { recursive: true });
  const keep = (name) => join(job.artefacts, name);
  process.stdout.write(JSON.stringify(await ACTIONS[job.action]({ browser, address, job, keep })));
} finally {
  await browser.close();
  server.kill();
}
