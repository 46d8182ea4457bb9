// Starts `cargo dev` on free ports and a browser, for the tests of the console.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const FREE = '127.0.0.1:0';
// Chromium without the services that it would call on the internet.
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

/** The local system: its addresses, and `stop`. */
export async function startSystem() {
  const flags = ['--json', '--api-addr', FREE, '--sqs-addr', FREE, '--dynamodb-addr', FREE, '--receiver-addr', FREE];
  // `DEV` names a program that is built already.
  const [program, ...before] = process.env.DEV ? [process.env.DEV] : ['cargo', 'dev'];
  const child = spawn(program, [...before, ...flags], { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'] });
  const line = await new Promise((resolve, reject) => {
    createInterface(child.stdout).once('line', resolve);
    child.once('exit', (code) => reject(new Error(`cargo dev ended with ${code}`)));
  });
  const addresses = JSON.parse(line);
  return {
    ...addresses,
    stop: () => new Promise((resolve) => {
      child.once('exit', resolve);
      child.kill('SIGTERM');
    }),
    /** Sends an event to the events queue. */
    async publish(event_type, data) {
      const message = { event_type, user_id: 'dev', data };
      const response = await fetch(addresses.sqs, {
        method: 'POST',
        headers: { 'content-type': 'application/x-amz-json-1.0', 'x-amz-target': 'AmazonSQS.SendMessage' },
        body: JSON.stringify({ QueueUrl: addresses.events_queue_url, MessageBody: JSON.stringify(message) }),
      });
      if (!response.ok) throw new Error(await response.text());
    },
  };
}

export function startBrowser() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: FLAGS });
}

/** A page in a context of its own. Errors of the page are collected in `page.failures`. */
export async function newPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.failures = [];
  page.on('pageerror', (error) => page.failures.push(error.message));
  page.on('console', (message) => {
    // A status of the API is not a fault of the page.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) page.failures.push(message.text());
  });
  return page;
}
