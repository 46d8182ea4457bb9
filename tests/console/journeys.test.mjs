// What the owner of webhooks does in the console, in Chromium against `cargo dev`.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { newPage, startBrowser, startIssuer, startSystem } from './harness.mjs';

const axe = readFileSync(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
// Screenshots for the documentation are written into this folder.
const SCREENSHOTS = process.env.SCREENSHOTS;
/** The most bytes until the first page is shown. */
const FIRST_PAINT_BYTES = 100_000;

let system, browser;
before(async () => {
  [system, browser] = await Promise.all([startSystem(), startBrowser()]);
});
after(async () => {
  await browser?.close();
  await system?.stop();
});

/** A page that shows this path of the console. */
async function open(path = '/', options = {}) {
  const page = await newPage(browser, options);
  await page.goto(`${system.api}/console#${path}`);
  return page;
}

async function close(page) {
  assert.deepEqual(page.failures, []);
  await page.context().close();
}

const button = (page, name) => page.getByRole('button', { name, exact: true });
const link = (page, name) => page.getByRole('link', { name, exact: true });

/** Creates a webhook by clicks, and returns its secret. The page of the webhook is shown then. */
async function create(page, { url, description, retries }) {
  await link(page, 'Webhooks').click();
  await link(page, 'Create webhook').click();
  await page.getByLabel('Endpoint URL').fill(url);
  await page.getByLabel('Description').fill(description);
  await page.getByLabel('All of task').check();
  if (retries !== undefined) {
    await page.getByText('Retries, filter, headers and signature').click();
    await page.getByLabel('Retries', { exact: true }).fill(String(retries));
  }
  await button(page, 'Create webhook').click();
  const secret = await page.locator('dialog code').textContent();
  await button(page, 'I have stored it').click();
  await page.getByRole('heading', { level: 1, name: description }).waitFor();
  return secret;
}

test('webhook is created, and each error is shown at its field', async () => {
  const page = await open();
  await page.getByText('No webhooks yet').waitFor();
  await link(page, 'Create webhook').click();
  await button(page, 'Create webhook').click();
  await page.getByText('Some fields are not valid').waitFor();
  const url = page.getByLabel('Endpoint URL');
  assert.equal(await url.getAttribute('aria-invalid'), 'true');
  assert.ok(await url.evaluate((input) => input === input.getRootNode().activeElement), 'the first invalid field has the focus');
  await page.getByText('must name 1 to 50 event types').waitFor();
  const secret = await create(page, { url: `${system.receiver}/`, description: 'First webhook' });
  assert.match(secret, /^whsec_/);
  await page.getByText('Active', { exact: true }).first().waitFor();
  await close(page);
});

test('secret is shown once and can be copied', async () => {
  const page = await open('/create');
  await page.getByLabel('Endpoint URL').fill(`${system.receiver}/`);
  await page.getByLabel('All events').check();
  await button(page, 'Create webhook').click();
  const secret = await page.locator('dialog code').textContent();
  await page.locator('dialog').getByRole('button', { name: 'Copy' }).click();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), secret);
  await button(page, 'I have stored it').click();
  await page.getByRole('heading', { name: 'Configuration' }).waitFor();
  await page.reload();
  await page.getByRole('heading', { name: 'Configuration' }).waitFor();
  assert.ok(!(await page.content()).includes(secret));
  await close(page);
});

test('broken endpoint is found, understood and repaired by clicks', async () => {
  const page = await open();
  await create(page, { url: `${system.receiver}/status/503`, description: 'Broken endpoint', retries: 0 });
  for (const number of [1, 2, 3]) await system.publish('task.created', { task_id: `t-${number}`, title: 'A task' });

  // Found: the list shows it.
  await link(page, 'Webhooks').click();
  const row = page.getByRole('row', { name: /Broken endpoint/ });
  await row.getByText('http_503').waitFor();
  await row.getByText('Failing', { exact: true }).waitFor();

  // Understood: the delivery shows each attempt and what to do.
  await link(page, 'Broken endpoint').click();
  await link(page, 'Deliveries').click();
  await page.getByLabel('Status').selectOption('failed');
  await page.getByRole('row', { name: /task.created/ }).first().getByRole('link').click();
  await page.getByText('Attempt 1').waitFor();
  await page.getByText('What to do').first().waitFor();
  await button(page, 'Copy as curl').click();
  const command = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(command, /curl -X POST 'http:.*\/status\/503'/);
  assert.match(command, /"task_id":"t-/);

  // Repaired: another URL, then what failed is sent again.
  await page.getByText('← Deliveries').click();
  await link(page, 'Edit').click();
  await page.getByLabel('Endpoint URL').fill(`${system.receiver}/`);
  await button(page, 'Save').click();
  await link(page, 'Recover').click();
  await button(page, 'Count').click();
  await page.getByText('3 deliveries would be sent again.').waitFor();
  await button(page, 'Start recovery').click();
  await page.getByText('3 of 3 sent, 3 succeeded, 0 failed').waitFor();
  await link(page, 'Deliveries').click();
  await page.getByLabel('Status').selectOption('success');
  await page.getByRole('row', { name: /task.created.*Recovery/ }).nth(2).waitFor();
  await close(page);
});

test('new deliveries appear by themselves, and one is redelivered', async () => {
  const page = await open();
  await create(page, { url: `${system.receiver}/`, description: 'Live webhook' });
  await link(page, 'Deliveries').click();
  await page.getByText('No deliveries.').waitFor();
  await system.publish('task.completed', { task_id: 't-9', title: 'Done' });
  await page.getByRole('row', { name: /task.completed/ }).getByRole('link').click();
  await page.getByText('"task_id": "t-9"').waitFor();
  await button(page, 'Redeliver').click();
  await page.getByText('Redelivery of').waitFor();
  await page.getByText('Success', { exact: true }).first().waitFor();
  await close(page);
});

test('deliveries of all webhooks are listed, and those of one event are found by its id', async () => {
  const page = await open();
  await create(page, { url: `${system.receiver}/`, description: 'Second live webhook' });
  await system.publish('task.updated', { task_id: 't-10' });
  await link(page, 'All deliveries').click();
  const rows = page.getByRole('row', { name: /task.updated/ });
  const ofSecond = rows.filter({ has: link(page, 'Second live webhook') });
  await ofSecond.waitFor();
  await rows.nth(1).waitFor();
  await page.getByLabel('Webhook', { exact: true }).selectOption({ label: 'Second live webhook' });
  await rows.nth(1).waitFor({ state: 'detached' });
  await ofSecond.waitFor();
  await rows.getByRole('link').first().click();
  await page.getByText('"task_id": "t-10"').waitFor();
  await link(page, 'All deliveries').click();
  await page.getByLabel('Event id').fill('no-such-event');
  await page.getByLabel('Event id').blur();
  await page.getByText('No deliveries match the filters.').waitFor();
  await close(page);
});

test('test of any type is sent with changed data', async () => {
  const page = await open();
  await create(page, { url: `${system.receiver}/`, description: 'Tested webhook' });
  await button(page, 'Send a test').click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Event type').selectOption('task.deleted');
  const data = dialog.getByLabel('Data');
  assert.ok(Object.keys(JSON.parse(await data.inputValue())).length > 0, 'the example is filled in');
  await data.fill('[1]');
  await button(dialog, 'Send test').click();
  await dialog.getByText('This is not a JSON object.').waitFor();
  await data.fill('{"task_id": "mine"}');
  await button(dialog, 'Send test').click();
  await dialog.getByText('The endpoint accepted the test.').waitFor();
  await dialog.getByText('select this event').waitFor();
  await dialog.getByText('Show the request and the response').click();
  await page.getByText('"task_id": "mine"').waitFor();
  await close(page);
});

test('webhook is paused, resumed, rotated and deleted', async () => {
  const page = await open();
  const secret = await create(page, { url: `${system.receiver}/`, description: 'Short-lived' });
  await button(page, 'Pause').click();
  await page.getByText('You paused this webhook.').first().waitFor();
  await button(page, 'Resume').click();
  await page.getByText('Deliveries are sent.').waitFor();

  await button(page, 'Rotate secret').click();
  await page.getByLabel('Overlap').selectOption({ label: '1 hour' });
  await page.locator('dialog').getByRole('button', { name: 'Rotate secret' }).click();
  await page.getByText('The webhook has a new secret.').waitFor();
  assert.notEqual(await page.locator('dialog code').textContent(), secret);
  await button(page, 'I have stored it').click();
  await page.getByText('previous secret, until').waitFor();

  await button(page, 'Delete').click();
  const submit = page.locator('dialog').getByRole('button', { name: 'Delete webhook' });
  assert.ok(await submit.isDisabled());
  await page.getByLabel('Type Short-lived to confirm').fill('Short-lived');
  await submit.click();
  await page.getByRole('heading', { level: 1, name: 'Webhooks' }).waitFor();
  await page.getByRole('row', { name: /First webhook/ }).waitFor();
  assert.equal(await page.getByText('Short-lived').count(), 0);
  await close(page);
});

test('statistics, catalogue and guide are shown', async () => {
  const page = await open();
  const secret = await create(page, { url: `${system.receiver}/some/path`, description: 'Measured webhook' });
  await system.publish('task.created', { task_id: 't-1', title: 'A task' });
  await page.getByText('Show the numbers').click();
  await page.getByRole('region', { name: 'Statistics' }).getByRole('row').nth(1).waitFor();

  await link(page, 'Receive').click();
  await page.getByText(`WEBHOOK_SECRET=${secret}`).waitFor();
  for (const language of ['Python', 'Node.js', 'Rust']) {
    await page.getByLabel('Language').selectOption({ label: language });
    await page.getByRole('region', { name: 'An endpoint' }).getByText('/some/path').waitFor();
  }
  await page.getByLabel('Language').selectOption({ label: 'Go' });
  await page.getByText('package').first().waitFor();

  await link(page, 'Event types').click();
  await page.getByLabel('Search').fill('calendar');
  await page.getByText('calendar.event.created').click();
  await page.getByText('Schema of data').first().waitFor();
  assert.equal(await page.locator('summary').count(), 3);
  await close(page);
});

test('signature debugger says why a signature does not match', async () => {
  const vector = JSON.parse(readFileSync(new URL('../../docs/snippets/vector.json', import.meta.url), 'utf8'));
  const page = await open('/signature');
  const headers = Object.entries(vector.headers).map(([name, value]) => `${name}: ${value}`).join('\n');
  await page.getByLabel('Signing secret').fill(vector.secret);
  await page.getByLabel('Request headers').fill(headers);
  await page.getByLabel('Request body').fill(vector.body);
  await button(page, 'Check').click();
  await page.getByText('X-Webhook-Signature: The signature is valid.').waitFor();
  await page.getByText('its timestamp is').waitFor();
  await page.getByLabel('Request body').fill(JSON.stringify(JSON.parse(vector.body), null, 2));
  await button(page, 'Check').click();
  await page.getByText('verify the raw bytes instead').first().waitFor();
  await close(page);
});

test('dialog is used and closed by keyboard', async () => {
  const page = await open();
  await link(page, 'First webhook').click();
  await button(page, 'Rotate secret').focus();
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert.equal(await page.evaluate(() => {
    const { activeElement } = document.querySelector('webhooks-console').shadowRoot;
    return activeElement.textContent;
  }), 'Rotate secret');
  await close(page);
});

test('element shows the console inside of a product page', async () => {
  const page = await newPage(browser);
  await page.route('**/settings.html', (route) => route.fulfill({
    contentType: 'text/html',
    body: `<!doctype html><html lang="en"><title>Settings</title><h1>Settings</h1>
      <script type="module" src="/console/webhooks-console.js"></script>
      <webhooks-console api-url="${system.api}" token="bad" theme="dark"></webhooks-console></html>`,
  }));
  await page.goto(`${system.api}/settings.html`);
  await page.getByText('The token has expired or is not valid.').waitFor();
  await page.evaluate((token) => document.querySelector('webhooks-console').setAttribute('token', token), system.token);
  await button(page, 'Try again').click();
  await page.getByText('First webhook').click();
  await page.getByRole('heading', { name: 'Configuration' }).waitFor();
  assert.ok(page.url().endsWith('/settings.html'), 'the URL is the product’s');
  await page.evaluate(() => document.querySelector('webhooks-console').style.setProperty('--webhooks-background', 'rgb(1, 2, 3)'));
  const background = await page.locator('.console').evaluate((element) => getComputedStyle(element).backgroundColor);
  assert.equal(background, 'rgb(1, 2, 3)');
  await close(page);
});

test('user signs in at the issuer with PKCE, and the token stays in memory', async () => {
  const issuer = await startIssuer({ clientId: 'console', accessToken: () => system.token });
  const page = await newPage(browser, { bypassCSP: true });
  const config = { api_url: '', token_url: null, issuer: issuer.origin, client_id: 'console', scope: 'openid', development: true };
  await page.route('**/console/config.json', (route) => route.fulfill({ json: config }));
  await page.goto(`${system.api}/console#/event-types`);
  await button(page, 'Sign in').click();
  await page.getByRole('heading', { name: 'Event types' }).waitFor();
  assert.equal(issuer.used, 1);
  assert.ok(!page.url().includes('code='));
  const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  assert.equal(stored, '[{},{},""]');
  await page.reload();
  await button(page, 'Sign in').waitFor();
  await close(page);
  await issuer.stop();
});

test('first page needs at most 100 KB', async () => {
  const page = await open();
  await page.getByRole('heading', { level: 1, name: 'Webhooks' }).waitFor();
  const bytes = await page.evaluate(() => performance.getEntries()
    .filter((entry) => ['navigation', 'resource'].includes(entry.entryType) && new URL(entry.name).pathname.startsWith('/console'))
    .reduce((sum, entry) => sum + entry.transferSize, 0));
  console.log(`# first page: ${bytes} bytes transferred`);
  assert.ok(bytes > 10_000 && bytes <= FIRST_PAINT_BYTES, `${bytes} bytes`);
  await close(page);
});

test('axe finds nothing, light and dark, and a phone needs no sideways scrolling', async () => {
  const { items } = await (await fetch(`${system.api}/api/webhooks`, { headers: { authorization: `Bearer ${system.token}` } })).json();
  const webhook = items.find((item) => item.description === 'Broken endpoint');
  const deliveries = await (await fetch(`${system.api}/api/webhooks/${webhook.id}/deliveries?status=failed`, { headers: { authorization: `Bearer ${system.token}` } })).json();
  const base = `/webhooks/${webhook.id}`;
  const pages = {
    webhooks: ['/', 'Webhooks'],
    create: ['/create', 'Create a webhook'],
    edit: [`${base}/edit`, 'Edit the webhook'],
    webhook: [base, 'Configuration'],
    deliveries: [`${base}/deliveries`, 'Broken endpoint'],
    delivery: [`${base}/deliveries/${deliveries.items[0].id}`, 'Attempts'],
    recover: [`${base}/recover`, 'Recoveries'],
    receive: [`${base}/receive`, 'Values of this webhook'],
    'all-deliveries': ['/deliveries', 'Deliveries of all webhooks'],
    'event-types': ['/event-types', 'Event types'],
    signature: ['/signature', 'Check a signature'],
  };
  for (const colorScheme of ['light', 'dark']) {
    for (const [name, [path, heading]] of Object.entries(pages)) {
      const page = await open(path, { colorScheme, bypassCSP: true });
      await page.getByRole('heading', { name: heading }).first().waitFor();
      await page.waitForLoadState('networkidle');
      if (SCREENSHOTS) await page.screenshot({ path: `${SCREENSHOTS}/console-${name}-${colorScheme}.png` });
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => window.axe.run());
      assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map((node) => node.html)]), [], `${name}, ${colorScheme}`);
      await page.setViewportSize({ width: 360, height: 740 });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `${name}: ${overflow} px too wide`);
      if (SCREENSHOTS && name === 'webhooks') await page.screenshot({ path: `${SCREENSHOTS}/console-phone-${colorScheme}.png` });
      await close(page);
    }
  }
});
