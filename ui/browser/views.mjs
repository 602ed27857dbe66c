// Uses the page in a real browser against a demo that runs: node browser/views.mjs URL FOLDER views|outage. Says a line for each step, and fails with the first that
// is not as it should be. No request may leave this machine, and nothing may be said on the console.
import { existsSync, mkdirSync } from "node:fs";
import { chromium } from "playwright-core";

const [url, folder, what] = process.argv.slice(2);
const executablePath = ["/usr/bin/chromium", "/usr/bin/google-chrome", "/usr/bin/chromium-browser"].find((path) => existsSync(path));
if (!executablePath) throw new Error("there is no chromium: the Debian package has it");
mkdirSync(folder, { recursive: true });
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync"],
});

function must(is, why) {
  if (!is) throw new Error(why);
}

/** A page on which nothing goes wrong unseen. `quiet`: the server may be away. */
async function open(options, quiet = false) {
  const page = await browser.newPage(options);
  const wrong = [];
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("request", (request) => {
    if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) wrong.push(`a request to ${request.url()}`);
  });
  return { page, end: async () => (await page.close(), must(quiet || wrong.length === 0, `on the console: ${wrong.join("; ")}`)) };
}

const number = async (page, selector) => Number(await page.locator(selector).getAttribute("data-total"));

async function ask(query, given) {
  const response = await fetch(`${url}/v1/query/${query}`, { method: "POST", body: JSON.stringify(given) });
  return response.json();
}

async function views() {
  const began = performance.now();
  const { page, end } = await open({ viewport: { width: 1280, height: 800 } });
  await page.goto(url);
  await page.locator(".topology-name", { hasText: "wiki_trends" }).waitFor();
  const paints = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint").map((entry) => entry.startTime));
  must(paints[0] < 1000, `the first paint came after ${paints[0]} ms`);
  console.log(`painted after ${Math.round(paints[0])} ms, ${Math.round(performance.now() - began)} ms with the browser`);

  await page.goto(`${url}/#/trends`);
  await page.locator(".total b").waitFor();
  const before = await number(page, ".total b");
  await page.waitForFunction((least) => Number(document.querySelector(".total b")?.dataset.total) > least, before, { timeout: 20_000 });
  console.log(`the charts move: ${before} edits, then ${await number(page, ".total b")}`);
  must((await page.locator("figure.chart canvas").count()) === 4, "there are four charts");
  must((await page.locator(".pages li").count()) > 5, "there are pages that were edited most");
  const chart = await page.locator("figure.chart .plot").first().boundingBox();
  await page.mouse.move(chart.x + chart.width * 0.3, chart.y + 50);
  await page.mouse.down();
  await page.mouse.move(chart.x + chart.width * 0.6, chart.y + 50, { steps: 5 });
  await page.mouse.up();
  await page.getByRole("button", { name: "Show all" }).waitFor();
  const part = await number(page, ".total b");
  must(part > 0 && part < before, `a part of ${before} edits has fewer, and not ${part}`);
  await page.getByRole("button", { name: "Show all" }).click();
  console.log("a part of the day was brushed");

  await page.goto(`${url}/#/queries/page`);
  await page.locator("textarea").fill("\"Jeremy Corbyn\"");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await page.getByRole("heading", { name: "Answer" }).waitFor();
  await page.locator("textarea").fill("Jeremy");
  must(await page.getByRole("button", { name: "Ask", exact: true }).isDisabled(), "what is no JSON is not sent");
  console.log("a query was asked");

  await page.goto(`${url}/#/states/pages`);
  const { result } = await ask("top", 1);
  await page.getByLabel("Key", { exact: true }).fill(result[0][0]);
  await page.getByRole("button", { name: "Look up" }).click();
  await page.locator(".facts dd", { hasText: /^batch/ }).waitFor();
  await page.locator(".rows tbody tr").first().waitFor();
  await page.getByRole("button", { name: "Next page" }).click();
  await page.waitForFunction(() => !document.querySelectorAll(".segments button")[1].disabled);
  console.log("a key was looked up, and a state browsed");

  await page.goto(`${url}/#/batches`);
  await page.locator(".timeline").focus();
  await page.keyboard.press("ArrowLeft");
  await page.getByRole("heading", { name: /^Batch [\d,]+$/ }).waitFor();
  await page.locator(".facts dt", { hasText: /^commit$/ }).waitFor();
  console.log("a batch was looked at");

  await page.goto(`${url}/#/topology`);
  await page.locator(".node.state").first().click();
  await page.locator("aside .facts dd", { hasText: /^\S+ per second$/ }).waitFor();
  await page.locator("aside .bars li", { hasText: /^worker 0/ }).waitFor();
  console.log("a node was looked at");
  await end();

  for (const [size, viewport] of [["desktop", { width: 1280, height: 800 }], ["phone", { width: 390, height: 844 }]]) {
    for (const colorScheme of ["light", "dark"]) {
      const { page, end } = await open({ viewport, colorScheme });
      for (const view of ["overview", "topology", "batches", "states", "queries", "trends"]) {
        await page.goto(`${url}/#/${view}`);
        await page.locator("main > *").first().waitFor();
        if (view === "topology" && size === "desktop") await page.locator(".node .rate").first().waitFor();
        await page.waitForTimeout(700);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        must(wide <= 0, `${view} is ${wide} pixels wider than a ${size}`);
        await page.screenshot({ path: `${folder}/${view}-${size}-${colorScheme}.png` });
      }
      await end();
    }
  }
  console.log("every view has its pictures");
}

async function outage() {
  const { page, end } = await open({ viewport: { width: 1280, height: 800 } }, true);
  await page.goto(`${url}/#/trends`);
  await page.locator(".total b").waitFor();
  console.log("loaded");
  await page.locator(".banner").waitFor({ timeout: 30_000 });
  must((await page.locator(".banner").innerText()).length > 10, "the banner says what is");
  must(await page.locator(".total b").isVisible(), "what was known stays");
  await page.screenshot({ path: `${folder}/away.png` });
  console.log("away");
  await page.locator(".banner").waitFor({ state: "detached", timeout: 60_000 });
  // To the end of the day, and then the page, the query and the file say the same.
  await page.waitForFunction((all) => Number(document.querySelector(".total b")?.dataset.total) === all, 39_244, { timeout: 60_000 });
  const { result } = await ask("trend", ["", "", "action"]);
  must(result.reduce((sum, [, , edits]) => sum + edits, 0) === 39_244, "the query says the same");
  console.log("back");
  await end();
}

try {
  await (what === "outage" ? outage() : views());
} finally {
  await browser.close();
}
