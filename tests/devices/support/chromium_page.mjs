// What a person does with the page, step by step.
const VIEWS = {
  desktop: { viewport: { width: 1280, height: 800 } },
  phone: { viewport: { width: 360, height: 740 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true },
};

export const pageActions = {
  /** Predict, check for a newer round, check again, reload: what the page says at each step. */
  async story({ browser, address, job }) {
    const page = await (await browser.newContext(VIEWS.desktop)).newPage();
    const faults = listenForFaults(page);
    await open(page, address);
    const steps = { first: await facts(page) };
    await choose(page, job.image);
    steps.answered = await facts(page);
    steps.updated = await check(page);
    steps.again = await check(page);
    await page.reload();
    await ready(page);
    steps.reloaded = await facts(page);
    steps.replayed = await check(page);
    await page.evaluate(() => caches.keys().then((names) => Promise.all(names.map((name) => caches.delete(name)))));
    await page.route("**/update/**", (route) => route.fulfill({ status: 404 }));
    steps.unpublished = await check(page);
    await page.reload();
    await page.waitForSelector("#problem:not([hidden])");
    steps.rolledBack = await facts(page);
    return { steps, faults };
  },

  /** The ways in which a picture arrives, and what a bad one gets. */
  async pictures({ browser, address, job }) {
    const page = await (await browser.newContext(VIEWS.desktop)).newPage();
    const faults = listenForFaults(page);
    await open(page, address);
    const answers = {};
    for (const way of ["paste", "drop"]) {
      await page.evaluate(giveFile, { way, url: job.picture });
      await page.waitForSelector("#bars li");
      answers[way] = await facts(page);
      await page.reload();
      await ready(page);
    }
    await page.setInputFiles("#choose", {
      name: "x.jpg",
      mimeType: "image/jpeg",
      buffer: Buffer.from("not a picture"),
    });
    await page.waitForSelector("#problem:not([hidden])");
    answers.bad = await facts(page);
    await choose(page, job.image);
    answers.good = await facts(page);
    await page.keyboard.press("Tab");
    answers.focus = await page.evaluate(() => document.activeElement.id);
    return { answers, faults };
  },

  /** The page after a prediction, in every view, and how it measures. */
  async screenshots({ browser, address, job, keep }) {
    const measures = {};
    for (const [view, settings] of Object.entries(VIEWS)) {
      for (const colorScheme of ["light", "dark"]) {
        const context = await browser.newContext({ ...settings, colorScheme, reducedMotion: "reduce" });
        const page = await context.newPage();
        await open(page, address);
        await page.screenshot({ path: keep(`${view}-${colorScheme}-ready.png`) });
        await choose(page, job.image);
        await check(page);
        measures[`${view}-${colorScheme}`] = await page.evaluate(measure);
        await page.mouse.move(0, 0);
        const height = await page.evaluate(() => document.documentElement.scrollHeight);
        await page.evaluate(() => scrollTo(0, 0));
        await page.setViewportSize({ width: settings.viewport.width, height });
        await page.screenshot({ path: keep(`${view}-${colorScheme}.png`) });
        await context.close();
      }
    }
    return measures;
  },
};

function listenForFaults(page) {
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  return faults;
}

const ready = (page) => page.waitForSelector("#choose:enabled", { timeout: 60_000 });

async function open(page, address) {
  await page.goto(address);
  await ready(page);
}

async function choose(page, image) {
  await page.setInputFiles("#choose", image);
  await page.waitForSelector("#bars li");
}

async function check(page) {
  await page.click("#check");
  await page.waitForFunction(() => !document.getElementById("check").disabled);
  return facts(page);
}

const facts = (page) =>
  page.evaluate(() => {
    const text = (id) => document.getElementById(id).textContent.trim();
    return {
      headline: text("headline"),
      problem: text("problem"),
      news: text("news"),
      seal: text("seal"),
      facts: text("facts"),
      host: text("host"),
      bars: document.querySelectorAll("#bars li").length,
    };
  });

// Runs in the page.
async function giveFile({ way, url }) {
  const transfer = new DataTransfer();
  transfer.items.add(new File([await (await fetch(url)).blob()], "picture"));
  const event =
    way === "paste"
      ? new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true })
      : new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}

// Runs in the page: contrast of every text with what lies behind it, sizes of what is pressed, width of the page.
function measure() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (css) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (css) =>
    rgba(css)
      .slice(0, 3)
      .map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
      .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const { backgroundColor } = getComputedStyle(at);
      if (rgba(backgroundColor)[3] === 255) return backgroundColor;
    }
    return "white";
  };
  const contrast = (element) => {
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const shown = [...document.querySelectorAll("body *")].filter(
    (element) =>
      element.checkVisibility() &&
      [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim() !== ""),
  );
  const low = shown
    .map((element) => [element.textContent.trim().slice(0, 40), contrast(element)])
    .filter(([, ratio]) => ratio < 4.5);
  const buttons = [...document.querySelectorAll(".button")].filter((element) => element.checkVisibility());
  return {
    low,
    lowestButton: Math.min(...buttons.map((button) => button.getBoundingClientRect().height)),
    overflow: document.documentElement.scrollWidth - innerWidth,
    unnamed: [...document.querySelectorAll("input, button")].filter(
      (control) => !(control.labels?.length || control.textContent.trim()),
    ).length,
    camera: getComputedStyle(document.querySelector(".camera")).display !== "none",
  };
}
