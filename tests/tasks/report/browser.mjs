// node browser.mjs PACKAGES CHROMIUM PAGE SCREENSHOTS: looks at a page in a browser, and says in JSON
// what it saw. PACKAGES has node_modules with playwright-core; SCREENSHOTS is a directory or "".

import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [packages, executable, file, screenshots] = process.argv.slice(2);
const { chromium } = createRequire(join(resolve(packages), "package.json"))("playwright-core");
const browser = await chromium.launch({ executablePath: executable, headless: true, args: ["--no-sandbox"] });
const complaints = [];

async function open(width, options = {}) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, ...options });
  const page = await context.newPage();
  page.on("console", (message) => complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("request", (request) => {
    if (!/^(file|data):/.test(request.url())) complaints.push(`asked for ${request.url()}`);
  });
  await page.goto(pathToFileURL(resolve(file)).href);
  return page;
}

async function keep(page, name) {
  if (screenshots) await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
}

const back = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
// Whether the page is wider than the window, and which elements reach out of it.
const overflow = (page) =>
  page.evaluate(() => [
    document.documentElement.scrollWidth - innerWidth,
    [...document.querySelectorAll("td > button, figure, .graph, select, h1, h2, .count")]
      .filter((found) => found.checkVisibility() && found.getBoundingClientRect().right > innerWidth)
      .map((found) => found.outerHTML.slice(0, 80)),
  ]);
// Cells whose middle is covered by something else cannot be pressed.
const covered = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll("td > button")].filter((button) => {
      button.scrollIntoView({ block: "center", inline: "center" });
      const { x, y, width, height } = button.getBoundingClientRect();
      return !button.contains(document.elementFromPoint(x + width / 2, y + height / 2));
    }).length,
  );
const cells = (page) => page.locator("td[data-state]:visible:not(.off)").count();
const rows = (page) => page.locator("tbody tr:not(.model):visible > th").allTextContents();
const opened = (page) => page.locator("[popover]:popover-open h3").allTextContents();

const saw = {};

const wide = await open(1440);
saw.title = await wide.title();
saw.light = await back(wide);
saw.wide = { overflow: await overflow(wide), covered: await covered(wide), cells: await cells(wide) };
await keep(wide, "light");

// With the keyboard alone: the link past the header, a cell, its details, and back.
await wide.evaluate(() => scrollTo(0, 0));
await wide.keyboard.press("Tab");
saw.skip = await wide.evaluate(() => document.activeElement.getAttribute("href"));
await wide.keyboard.press("Enter");
const before = [];
for (let presses = 0; presses < 40 && !before.includes("cell-0"); presses += 1) {
  await wide.keyboard.press("Tab");
  before.push(await wide.evaluate(() => document.activeElement.getAttribute("popovertarget")));
}
await wide.keyboard.press("Enter");
saw.opened = await opened(wide);
saw.told = await wide.locator("#cell-0").innerText();
await wide.keyboard.press("Tab");
saw.inside = await wide.evaluate(() => document.activeElement.textContent);
await wide.keyboard.press("Escape");
saw.closed = await opened(wide);
saw.focus = await wide.evaluate(() => document.activeElement.getAttribute("popovertarget"));

// Sorting and filtering.
saw.rows = await rows(wide);
const size = wide.locator("thead th[data-target] button").first();
await size.click();
saw.ascending = await rows(wide);
await size.click();
saw.descending = await rows(wide);
saw.sorted = await wide.locator("thead th[aria-sort]").getAttribute("aria-sort");
await wide.locator("select[name=state]").selectOption("stale");
saw.filtered = { cells: await cells(wide), told: await wide.locator("output").textContent(), rows: await rows(wide) };
await wide.locator("button[type=reset]").click();
await wide.waitForFunction(() => document.querySelector("output").value === "");
saw.reset = await cells(wide);

// The switch of colours.
await wide.locator("label[for=scheme-dark]").click();
saw.switched = await back(wide);
await wide.keyboard.press("ArrowLeft");
saw.switchedBack = await back(wide);

const dark = await open(1440, { colorScheme: "dark" });
saw.dark = await back(dark);
await keep(dark, "dark");

const phone = await open(390);
saw.phone = { overflow: await overflow(phone), covered: await covered(phone), cells: await cells(phone) };
await keep(phone, "phone");
await phone.locator("td button").first().click();
saw.phone.opened = await opened(phone);
saw.phone.box = await phone.locator("#cell-0").evaluate((box) => box.getBoundingClientRect().right <= innerWidth);

const plain = await open(1440, { javaScriptEnabled: false });
saw.plain = { cells: await cells(plain), filters: await plain.locator("form:visible").count() };
await plain.locator("td button").first().click();
saw.plain.opened = await opened(plain);

await browser.close();
console.log(JSON.stringify({ ...saw, complaints }));
