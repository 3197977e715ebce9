// Opens reports and the dashboard in headless Chromium, as people will: at the width of a desk and of a phone, light and dark; with the
// pointer and with the keyboard. Fails on an error in the page, on a page wider than the screen, on anything that axe-core finds
// against WCAG 2 A and AA, and where a live page does not follow its run.
//
//   npm install && node check.mjs PRETRAIN OUT RUN [RUN…]
//
// PRETRAIN is the program, OUT a folder for the screenshots, RUN… run directories, which are copied. CHROMIUM names the browser
// (default /usr/bin/chromium).
import { chromium } from "playwright-core";
import { execFileSync, spawn } from "node:child_process";
import { appendFileSync, cpSync, mkdirSync, readFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { createRequire } from "node:module";

const [pretrain, out, ...given] = process.argv.slice(2).map(p => resolve(p));
if (!given.length) throw new Error("usage: node check.mjs PRETRAIN OUT RUN [RUN…]");
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const runs = join(out, "runs");
mkdirSync(runs, { recursive: true });
const dirs = given.map(d => { const copy = join(runs, basename(d)); cpSync(d, copy, { recursive: true, filter: p => !p.includes("checkpoints") }); return copy });

const failures = [];
const check = (good, text) => { console.log(`${good ? "ok  " : "FAIL"} ${text}`); if (!good) failures.push(text) };

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

// open opens a page and watches for errors.
const open = async (url, name, size, colorScheme) => {
  const page = await browser.newPage({ viewport: size, colorScheme });
  page.errors = [];
  page.on("pageerror", e => page.errors.push(e.message));
  page.on("console", m => { if (m.type() === "error") page.errors.push(m.text()) });
  await page.goto(url);
  await page.waitForSelector("svg.chart");
  page.title = name;
  return page;
};

const inspect = async page => {
  check(page.errors.length === 0, `${page.title}: no errors ${page.errors.join("; ")}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(wide <= 0, `${page.title}: not wider than the screen (${wide} px over)`);
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { runOnly: ["wcag2a", "wcag2aa"] }));
  check(violations.length === 0, `${page.title}: accessible ${violations.map(v => `${v.id} (${v.nodes.length}: ${v.nodes[0].target})`).join("; ")}`);
  await page.screenshot({ path: join(out, page.title.replaceAll(" ", "-") + ".png"), fullPage: true });
};

const desk = { width: 1200, height: 900 }, phone = { width: 390, height: 844 };

const single = join(out, "report.html"), compared = join(out, "compared.html");
execFileSync(pretrain, ["report", dirs[0], "--out", single]);
execFileSync(pretrain, ["report", ...dirs, "--out", compared]);
for (const [name, file] of [["report", single], ["compared", compared]])
  for (const [width, size] of [["desk", desk], ["phone", phone]])
    for (const scheme of ["light", "dark"]) {
      const page = await open("file://" + file, `${name} ${width} ${scheme}`, size, scheme);
      await inspect(page);
      await page.close();
    }

// Values by pointer and by keyboard.
{
  const page = await open("file://" + single, "report", desk, "light");
  await page.locator("svg.chart").first().hover();
  check(/tokens\n/.test(await page.locator(".tip").textContent()), "the pointer reads a drawing");
  await page.mouse.move(5, 5);
  check(await page.locator(".tip").isHidden(), "and stops reading it");
  await page.locator("svg.chart").first().focus();
  for (let i = 0; i < 3; i++) await page.keyboard.press("ArrowRight");
  check(/tokens\n/.test(await page.locator(".tip").textContent()), "the keyboard reads a drawing");
  await page.keyboard.press("Escape");
  check(await page.locator(".tip").isHidden(), "and stops reading it");
  await page.close();
}

// The live page.
const server = spawn(pretrain, ["dashboard", runs, "--listen", "127.0.0.1:0", "--json"]);
try {
  const { url } = JSON.parse(await new Promise(done => server.stdout.once("data", done)));
  for (const [width, size] of [["desk", desk], ["phone", phone]])
    for (const scheme of ["light", "dark"]) {
      const page = await open(url, `dashboard ${width} ${scheme}`, size, scheme);
      await inspect(page);
      await page.close();
    }
  const page = await open(url, "dashboard", desk, "light");
  const name = basename(dirs[0]);
  await page.getByRole("searchbox").fill("no such run");
  check(await page.getByRole("checkbox").count() === 0, "the search leaves out what it does not find");
  await page.getByRole("searchbox").fill(name);
  check(await page.getByRole("checkbox", { name }).count() >= 1, "and finds what it does");
  await page.getByRole("searchbox").fill("");
  await page.getByRole("button", { name: "Clear selection" }).click();
  check(await page.locator("svg.chart").count() === 0, "a cleared selection shows no run");
  await page.getByRole("checkbox", { name }).first().focus();
  await page.keyboard.press("Space");
  await page.waitForSelector("svg.chart");
  check(true, "the keyboard chooses a run");
  const steps = () => page.locator("#summary tbody tr").first().locator("td").first().textContent();
  const before = await steps();
  const file = join(dirs[0], "metrics.jsonl"), records = readFileSync(file, "utf8").trimEnd().split("\n");
  const next = JSON.parse(records.at(-1));
  next.step++; next.tokens += next.batch_tokens;
  appendFileSync(file, JSON.stringify(next) + "\n");
  await page.waitForFunction(was => document.querySelector("#summary tbody td").textContent !== was, before, { timeout: 10000 });
  check(await steps() !== before, `the page follows its run: ${before} → ${await steps()} steps`);
  check(page.errors.length === 0, `dashboard: no errors ${page.errors.join("; ")}`);
} finally {
  server.kill("SIGTERM");
  await browser.close();
}
console.log(failures.length ? `${failures.length} failed` : "all passed");
process.exit(failures.length ? 1 : 0);
