// Uses the page in a real browser against a topology that runs: node browser/views.mjs URL FOLDER views|outage|standstill, or controls TOKEN, or large BATCHES. Says a line for each step, and fails with the first that
// is not as it should be. No request may leave this machine, and nothing may be said on the console.
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { chromium } from "playwright-core";

const [url, folder, what, given] = process.argv.slice(2);
const executablePath = ["/usr/bin/chromium", "/usr/bin/google-chrome", "/usr/bin/chromium-browser"].find((path) => existsSync(path));
if (!executablePath) throw new Error("there is no chromium: the Debian package has it");
mkdirSync(folder, { recursive: true });
const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-sync"],
});

/** Nobody takes a page that stays still for 400 ms for one that hangs; twice that, for machines that are busy with other things. */
const STALL_MS = 800;

function must(is, why) {
  if (!is) throw new Error(why);
}

/** A page on which nothing goes wrong unseen. `quiet`: the server may be away. */
async function open(options, quiet = false) {
  const page = await browser.newPage(options);
  const wrong = [];
  // What the browser itself says of a server that is away, or that wants a token.
  const expected = /^Failed to load resource|^WebSocket connection/;
  page.on("console", (message) => message.type() === "error" && !(quiet && expected.test(message.text())) && wrong.push(message.text()));
  page.on("pageerror", (error) => wrong.push(error.message));
  const isHere = (address) => new URL(address).host === new URL(url).host;
  page.on("request", (request) => {
    if (!isHere(request.url()) && !/^(data|blob):/.test(request.url())) wrong.push(`a request to ${request.url()}`);
  });
  page.on("websocket", (socket) => isHere(socket.url()) || wrong.push(`a web socket to ${socket.url()}`));
  return { page, end: async () => (await page.close(), must(wrong.length === 0, `on the console: ${wrong.join("; ")}`)) };
}

const number = async (page, selector) => Number(await page.locator(selector).getAttribute("data-total"));

async function ask(query, given) {
  const response = await fetch(`${url}/v1/query/${query}`, { method: "POST", body: JSON.stringify(given) });
  return response.json();
}

const EDITS = "../examples/data/wikipedia-edits-2015-09-12.json.gz";
let edits = null;

/** How many of the file's first `upto` edits there are of each kind, in the order of the charts: counted from the file, without Tidemill. */
function recount(upto) {
  edits ??= gunzipSync(readFileSync(EDITS)).toString().trimEnd().split("\n").map((line) => JSON.parse(line));
  const charts = [{}, {}, {}, {}];
  for (const edit of edits.slice(0, upto)) {
    const kinds = [edit.isNew ? "new page" : "edit", edit.isRobot ? "bot" : "human", edit.isAnonymous ? "anonymous" : "logged-in", edit.channel];
    kinds.forEach((kind, chart) => (charts[chart][kind] = (charts[chart][kind] ?? 0) + 1));
  }
  return charts;
}

/** What the charts show, each with the batch that it is of: `[{ batch, shown: [[label, count]…] }…]`. */
const charts = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll(".trends figure.chart")].map((chart) => ({
      batch: Number(chart.parentElement.dataset.batch ?? 0),
      shown: [...chart.querySelectorAll(".chart-values > span")].map((span) => [
        span.textContent.trim().replace(/ ?[\d,]+$/, ""),
        Number(span.querySelector("b").textContent.replaceAll(",", "")),
      ]),
    })),
  );

/** Compares what the charts show with the file up to the batch that they are of; `batches` times, each at another batch. */
async function chartsAreExact(page, batches) {
  const seen = new Set();
  const began = performance.now();
  while (seen.size < batches) {
    must(performance.now() - began < 60_000, `the charts show only the batches ${[...seen].join(", ")}`);
    await page.waitForTimeout(150);
    for (const [number, { batch, shown }] of (await charts(page)).entries()) {
      if (batch === 0 || shown.length === 0) continue;
      const response = await fetch(`${url}/v1/batches/${batch}`);
      // Of a batch of an earlier run there is no report.
      if (!response.ok) continue;
      const expected = recount((await response.json()).ranges[0].end)[number];
      const total = Object.values(expected).reduce((sum, one) => sum + one, 0);
      must(shown.reduce((sum, [, one]) => sum + one, 0) === total, `chart ${number} shows ${JSON.stringify(shown)} as of batch ${batch}, and not ${total} edits`);
      for (const [label, one] of shown) {
        must(one === expected[label] || /^\d+ others$/.test(label), `chart ${number} shows ${one} of ${label} as of batch ${batch}, and not ${expected[label]}`);
      }
      const least = Math.min(...shown.filter(([label]) => label in expected).map(([, one]) => one));
      const missing = Object.entries(expected).filter(([label, one]) => one > least && !shown.some(([name]) => name === label));
      must(missing.length === 0, `chart ${number} adds up ${JSON.stringify(missing)}, which are more than others that it names`);
      seen.add(batch);
    }
  }
  console.log(`the charts are exact as of ${seen.size} batches, up to ${Math.max(...seen)}`);
}

/** Chooses a part of the day without a mouse. */
async function partByFields(page) {
  const [from, to] = ["From", "To"].map((label) => page.getByLabel(label, { exact: true }));
  const total = (least, most) =>
    page.waitForFunction(([least, most]) => {
      const shown = Number(document.querySelector(".total b").dataset.total);
      return shown >= least && shown <= most;
    }, [least, most]);
  // All is shown again after what was done before.
  await page.getByText("or drag over a chart").waitFor();
  const all = await number(page, ".total b");
  const [first, last] = await Promise.all([from, to].map(async (field) => Date.parse(`${await field.inputValue()}:00Z`)));
  const minute = (share) => new Date(first + (last - first) * share).toISOString().slice(0, 16);
  await from.fill(minute(0.25));
  await to.fill(minute(0.5));
  await total(1, all - 1);
  const part = await number(page, ".total b");
  await from.fill(minute(0.75));
  await page.getByText("From must be before To.").waitFor();
  must((await number(page, ".total b")) === part, "a From behind To changes nothing");
  await page.getByRole("button", { name: "Show all" }).click();
  await total(all, Infinity);
  console.log("a part of the day was chosen with the keyboard");
}

/** The figure is not empty, and each chart has values. */
async function overviewHasValues(page) {
  await page.waitForFunction(() => {
    const figure = [...document.querySelectorAll(".figure")].find((one) => one.querySelector("dt").textContent === "Records per second");
    const charts = [...document.querySelectorAll(".charts figure.chart")];
    const filled = charts.filter((chart) => chart.querySelector("canvas") && !chart.querySelector("p.unseen").textContent.includes("no values yet"));
    return parseFloat(figure?.querySelector("dd").firstChild.textContent) > 0 && charts.length === 3 && filled.length === 3;
  });
  console.log("the overview has its figure and its charts");
}

/** Asks how often the page was edited that was edited most. Edits only become more: if the port says the same before and after, the page must have said it too. */
async function answerIsThePorts(page) {
  const title = (await ask("top", 1)).result[0][0];
  await page.locator("textarea").fill(JSON.stringify(title));
  const answer = page.locator("section", { has: page.getByRole("heading", { name: "Answer" }) });
  for (let time = 0; time < 50; time++) {
    const before = JSON.stringify((await ask("page", title)).result);
    const response = page.waitForResponse(`${url}/v1/query/page`);
    await page.getByRole("button", { name: "Ask", exact: true }).click();
    const { txid } = await (await response).json();
    await answer.locator(".panel-note", { hasText: `batch ${txid.toLocaleString("en")},` }).waitFor();
    if (JSON.stringify((await ask("page", title)).result) !== before) continue;
    const asJson = answer.getByRole("button", { name: "JSON", exact: true });
    if ((await asJson.count()) > 0) await asJson.click();
    const shown = JSON.stringify(JSON.parse(await answer.locator("pre").textContent()));
    must(/[1-9]/.test(before), `"${title}" was edited, and the port says ${before}`);
    must(shown === before, `the page says ${shown} of "${title}", and the port ${before}`);
    return;
  }
  throw new Error(`the answer of "${title}" is never twice the same`);
}

async function views() {
  const began = performance.now();
  const { page, end } = await open({ viewport: { width: 1280, height: 800 } });
  await page.goto(url);
  await page.locator(".topology-name", { hasText: "wiki_trends" }).waitFor();
  const paints = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint").map((entry) => entry.startTime));
  must(paints[0] < 1000, `the first paint came after ${paints[0]} ms`);
  console.log(`painted after ${Math.round(paints[0])} ms, ${Math.round(performance.now() - began)} ms with the browser`);

  await overviewHasValues(page);

  await page.goto(`${url}/#/trends`);
  await page.locator(".total b[data-total]").waitFor();
  const before = await number(page, ".total b");
  await page.waitForFunction((least) => Number(document.querySelector(".total b")?.dataset.total) > least, before, { timeout: 20_000 });
  console.log(`the charts move: ${before} edits, then ${await number(page, ".total b")}`);
  must((await page.locator("figure.chart canvas").count()) === 4, "there are four charts");
  await chartsAreExact(page, 8);
  must((await page.locator(".pages li").count()) > 5, "there are pages that were edited most");
  const chart = await page.locator("figure.chart .plot").first().boundingBox();
  const all = await number(page, ".total b");
  await page.mouse.move(chart.x + chart.width * 0.3, chart.y + 50);
  await page.mouse.down();
  await page.mouse.move(chart.x + chart.width * 0.6, chart.y + 50, { steps: 5 });
  await page.mouse.up();
  await page.getByRole("button", { name: "Show all" }).waitFor();
  const part = await number(page, ".total b");
  must(part > 0 && part < all, `a part of ${all} edits has fewer, and not ${part}`);
  await page.getByRole("button", { name: "Show all" }).click();
  console.log("a part of the day was brushed");
  await partByFields(page);

  await page.goto(`${url}/#/queries/page`);
  await answerIsThePorts(page);
  await page.locator("textarea").fill("Jeremy");
  must(await page.getByRole("button", { name: "Ask", exact: true }).isDisabled(), "what is no JSON is not sent");
  console.log("a query was asked, and its answer is the port's");

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
  await page.locator(".total b[data-total]").waitFor();
  await chartsAreExact(page, 3);
  console.log("loaded");
  await page.locator(".banner").waitFor({ timeout: 30_000 });
  must((await page.locator(".banner").innerText()).length > 10, "the banner says what is");
  must(await page.locator(".total b").isVisible(), "what was known stays");
  await page.screenshot({ path: `${folder}/away.png` });
  // A view that was not shown before says what is, and goes on by itself.
  await page.goto(`${url}/#/states/pages`);
  await page.locator("main .note.bad", { hasText: "The server does not answer" }).waitFor();
  console.log("away");
  await page.locator(".banner").waitFor({ state: "detached", timeout: 60_000 });
  await page.locator(".rows tbody tr").first().waitFor({ timeout: 60_000 });
  await page.goto(`${url}/#/trends`);
  // The day may be over by now.
  await chartsAreExact(page, 1);
  // To the end of the day, and then the page, the query and the file say the same.
  await page.waitForFunction((all) => Number(document.querySelector(".total b")?.dataset.total) === all, 39_244, { timeout: 60_000 });
  const { result } = await ask("trend", ["", "", "action"]);
  must(result.reduce((sum, [, , edits]) => sum + edits, 0) === 39_244, "the query says the same");
  console.log("back");
  await end();
}

/** A server that is there and does nothing any more: stopped, or behind a link that is cut. */
async function standstill() {
  const { page, end } = await open({ viewport: { width: 1280, height: 800 } }, true);
  let heard = 0;
  page.on("websocket", (socket) => socket.on("framereceived", () => (heard = performance.now())));
  await page.goto(url);
  await page.locator(".topology-name", { hasText: "wiki_trends" }).waitFor();
  while (heard === 0) await page.waitForTimeout(50);
  const banner = page.locator(".banner", { hasText: "The server does not answer" });
  console.log("loaded");
  await banner.waitFor({ timeout: 60_000 });
  const silent = (performance.now() - heard) / 1000;
  // Six seconds, and as much again for a machine that is busy with other things.
  must(silent < 12, `it is said only after ${silent.toFixed(1)} s without a word of the server's`);
  console.log("stands still");
  await banner.waitFor({ state: "detached", timeout: 60_000 });
  const before = heard;
  while (heard === before) await page.waitForTimeout(50);
  console.log("goes on");
  await end();
}

/** With a token: what is asked for it, and what it allows. */
async function controls() {
  const { page, end } = await open({ viewport: { width: 1280, height: 800 } }, true);
  await page.goto(url);
  const dialog = page.locator("dialog");
  await dialog.getByLabel("Token").fill("not the token");
  await dialog.getByRole("button", { name: "Go on" }).click();
  await dialog.getByRole("alert").waitFor();
  must((await page.locator(".topology-name").innerText()) === "…", "nothing is shown without the token");
  await dialog.getByLabel("Token").fill(given);
  await dialog.getByRole("button", { name: "Go on" }).click();
  await page.locator(".topology-name", { hasText: "wiki_trends" }).waitFor();
  console.log("a wrong token is refused, the right one is taken");

  const offset = async () => {
    const status = await (await fetch(`${url}/v1/status`, { headers: { authorization: `Bearer ${given}` } })).json();
    return status.partitions[0].offset;
  };
  const phase = (name) => page.locator(".phase", { hasText: new RegExp(`${name}$`) }).waitFor();
  const press = async (name) => {
    await page.locator(".head").getByRole("button", { name, exact: true }).click();
    await dialog.getByRole("button", { name, exact: true }).click();
    await dialog.waitFor({ state: "detached" });
  };
  await phase("running");
  await page.locator(".head").getByRole("button", { name: "Pause", exact: true }).click();
  await dialog.getByRole("button", { name: "Cancel" }).waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  // Longer than from one status to the next.
  await page.waitForTimeout(1500);
  await phase("running");
  await press("Pause");
  await phase("paused");
  // What was read is committed; then nothing more comes.
  await page.waitForTimeout(500);
  const paused = await offset();
  await page.waitForTimeout(1000);
  must((await offset()) === paused, `it reads on while it is paused: ${paused}, then ${await offset()}`);
  await page.screenshot({ path: `${folder}/paused.png` });
  await press("Resume");
  await phase("running");
  while ((await offset()) === paused) await page.waitForTimeout(100);
  console.log("the sources were paused and resumed");
  await press("Drain");
  await phase("paused");
  console.log("and drained");
  await end();
}

/** The timeline has as many batches as the page keeps, also if messages have left some out or the page was not open yet. */
async function timelineIsFull(page) {
  const slowest = page.locator("section", { has: page.getByRole("heading", { name: "Slowest of these" }) });
  await page.getByRole("button", { name: "10,000", exact: true }).click();
  await slowest.locator(".panel-note", { hasText: /^10,000 batches$/ }).waitFor();
}

async function timelineIsFullForALatecomer() {
  const { page, end } = await open({ viewport: { width: 1280, height: 800 } });
  await page.goto(`${url}/#/batches`);
  await timelineIsFull(page);
  await end();
}

/** Beside a large topology: no view keeps the page from answering for long, and it does not grow while batches pass. */
async function large() {
  const batches = Number(given);
  const { page, end } = await open({ viewport: { width: 1280, height: 800 } });
  const devtools = await page.context().newCDPSession(page);
  await page.addInitScript(() => {
    globalThis.stalls = [];
    new PerformanceObserver((list) => globalThis.stalls.push(...list.getEntries().map((entry) => entry.duration))).observe({ type: "longtask", buffered: true });
  });
  const longest = async () => Math.round(await page.evaluate(() => Math.max(0, ...globalThis.stalls.splice(0))));
  await page.goto(`${url}/#/batches`);
  await page.locator(".topology-name", { hasText: "test" }).waitFor();
  console.log("opened");
  const sizes = [];
  for (const round of [1, 2]) {
    await page.waitForFunction((least) => Number(document.querySelector(".txid b")?.textContent.replaceAll(",", "")) >= least, round * batches, { timeout: 120_000 });
    await timelineIsFull(page);
    // A list of batches that is just being read is not there both times.
    const used = [];
    for (let time = 0; time < 2; time++) {
      await page.waitForTimeout(1500);
      await devtools.send("HeapProfiler.collectGarbage");
      used.push((await devtools.send("Runtime.getHeapUsage")).usedSize / 2 ** 20);
    }
    sizes.push(Math.min(...used));
    const stall = await longest();
    console.log(`after ${round * batches} batches the page has ${sizes.at(-1).toFixed(1)} MiB; it was busy for ${stall} ms at most`);
    must(stall < STALL_MS, "the timeline keeps the page from answering");
    if (round === 1) await timelineIsFullForALatecomer();
    console.log(`${batches} more batches have passed`);
  }
  must(sizes[1] < sizes[0] + 2, `it grows: ${sizes.map((size) => size.toFixed(1)).join(", then ")} MiB`);
  const visit = async (view, there) => {
    const began = performance.now();
    await page.goto(`${url}/#/${view}`);
    await there();
    const shown = Math.round(performance.now() - began);
    await page.waitForTimeout(700);
    const stall = await longest();
    console.log(`${view} is there after ${shown} ms, the page was busy for ${stall} ms at most`);
    must(stall < STALL_MS, `${view} keeps the page from answering for ${stall} ms`);
    await page.screenshot({ path: `${folder}/large-${view.replace("/", "-")}.png` });
  };
  await visit("topology", () => page.waitForFunction(() => document.querySelectorAll(".node").length >= 195));
  await visit("overview", () => page.locator(".figures").waitFor());
  await visit("batches", () => page.locator(".timeline canvas").waitFor());
  await visit("states/counts", () => page.locator(".rows tbody tr").first().waitFor());
  await page.getByLabel("Key", { exact: true }).fill("1199999");
  await page.getByRole("button", { name: "Look up" }).click();
  await page.locator(".facts dd", { hasText: /^batch/ }).waitFor();
  await visit("queries/count", () => page.locator("textarea").waitFor());
  await end();
}

try {
  await { views, outage, standstill, controls, large }[what]();
} finally {
  await browser.close();
}
