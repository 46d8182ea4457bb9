// One journey through the console of a deployed stack, with sign-in at the issuer of the stack. scripts/deploy/console.py
// deploys the stack and gives the addresses.
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { newPage, startBrowser, startIssuer } from './harness.mjs';

const { API, AUDIENCE, CERTIFICATE, CLIENT, ISSUER, QUEUE_URL, RECEIVER, SQS } = process.env;
const USER = 'user-1';
const KEY = generateKeyPairSync('rsa', { modulusLength: 2048 });

const button = (page, name) => page.getByRole('button', { name, exact: true });
const link = (page, name) => page.getByRole('link', { name, exact: true });

/** A token that the authorizer of the API accepts. */
function accessToken() {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  // API Gateway hands numbers to a function as text. ministack hands on what the token has.
  const claims = { iss: ISSUER, aud: AUDIENCE, sub: USER, iat: String(now), exp: String(now + 600) };
  const signed = `${part({ alg: 'RS256', kid: 'key-1' })}.${part(claims)}`;
  return `${signed}.${sign('sha256', Buffer.from(signed), KEY.privateKey).toString('base64url')}`;
}

/** Sends an event to the events queue. */
async function publish(event_type, data) {
  const response = await fetch(SQS, {
    method: 'POST',
    headers: { 'content-type': 'application/x-amz-json-1.0', 'x-amz-target': 'AmazonSQS.SendMessage' },
    body: JSON.stringify({ QueueUrl: QUEUE_URL, MessageBody: JSON.stringify({ event_type, user_id: USER, data }) }),
  });
  assert.ok(response.ok, await response.text());
}

/** Status and headers of a request that the page sends. */
const send = (page, path, options) => page.evaluate(async ([to, how]) => {
  const response = await fetch(to, { cache: 'no-store', ...how });
  return { status: response.status, headers: Object.fromEntries(response.headers), body: await response.text() };
}, [path, options]);

let issuer, browser;
before(async () => {
  const pem = readFileSync(CERTIFICATE);
  const keys = [{ ...KEY.publicKey.export({ format: 'jwk' }), kid: 'key-1', alg: 'RS256', use: 'sig' }];
  [issuer, browser] = await Promise.all([
    startIssuer({ port: new URL(ISSUER).port, tls: { key: pem, cert: pem }, clientId: CLIENT, accessToken, keys }),
    startBrowser(),
  ]);
  assert.equal(issuer.origin, ISSUER);
});
after(async () => {
  await browser?.close();
  await issuer?.stop();
});

test('files are served with a strict policy, compressed, and not again while they have not changed', async () => {
  const page = await newPage(browser, { ignoreHTTPSErrors: true });
  const response = await page.goto(`${API}/console`);
  const headers = await response.allHeaders();
  assert.equal(response.status(), 200);
  assert.equal(headers['content-type'], 'text/html; charset=utf-8');
  assert.equal(headers['content-encoding'], 'gzip');
  assert.equal(headers['cache-control'], 'no-cache');
  assert.equal(headers['x-content-type-options'], 'nosniff');
  assert.equal(headers['x-frame-options'], 'DENY');
  assert.equal(headers['content-security-policy'], "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    + `connect-src 'self' ${ISSUER}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`);
  const unchanged = await send(page, '/console', { headers: { 'if-none-match': headers.etag } });
  assert.equal(unchanged.status, 304);
  const config = JSON.parse((await send(page, '/console/config.json')).body);
  assert.deepEqual(config, {
    api_url: '', token_url: null, issuer: ISSUER, client_id: CLIENT, scope: 'openid', development: false,
  });
  const missing = await send(page, '/console/no-such-file.js');
  assert.deepEqual([missing.status, missing.headers['content-type']], [404, 'application/problem+json']);
  await button(page, 'Sign in').waitFor();
  assert.deepEqual(page.failures, []);
  await page.context().close();
});

test('API needs a token of the issuer, and a method that a path does not have returns 405', async () => {
  const page = await newPage(browser, { ignoreHTTPSErrors: true });
  await page.goto(`${API}/console`);
  for (const authorization of [undefined, 'Bearer x', `Bearer ${accessToken().slice(0, -8)}AAAAAAAA`]) {
    const headers = authorization ? { authorization } : {};
    for (const [method, path] of [['GET', '/api/webhooks'], ['PUT', '/api/webhooks'], ['GET', '/api/no-such-path']]) {
      assert.equal((await send(page, path, { method, headers })).status, 401, `${method} ${path} ${authorization}`);
    }
  }
  const headers = { authorization: `Bearer ${accessToken()}` };
  assert.equal((await send(page, '/api/webhooks', { headers })).status, 200);
  const unsupported = await send(page, '/api/webhooks', { method: 'PUT', headers });
  assert.deepEqual([unsupported.status, unsupported.headers.allow], [405, 'DELETE, GET, POST']);
  assert.equal((await send(page, '/api/no-such-path', { headers })).status, 404);
  assert.equal((await send(page, '/api/openapi.json')).status, 200);
  await page.context().close();
});

test('user signs in, and a webhook is created, tested, paused, resumed and deleted', async () => {
  const page = await newPage(browser, { ignoreHTTPSErrors: true });
  await page.goto(`${API}/console`);
  await button(page, 'Sign in').click();
  await page.getByText('No webhooks yet').waitFor();
  assert.equal(issuer.used, 1);

  await link(page, 'Create webhook').click();
  await page.getByLabel('Endpoint URL').fill(RECEIVER);
  await page.getByLabel('Description').fill('Deployed webhook');
  await page.getByLabel('All of task').check();
  await button(page, 'Create webhook').click();
  assert.match(await page.locator('dialog code').textContent(), /^whsec_/);
  await button(page, 'I have stored it').click();
  await page.getByRole('heading', { level: 1, name: 'Deployed webhook' }).waitFor();

  await button(page, 'Send a test').click();
  await button(page.getByRole('dialog'), 'Send test').click();
  await page.getByRole('dialog').getByText('The endpoint accepted the test.').waitFor();
  await page.keyboard.press('Escape');

  await link(page, 'Deliveries').click();
  await publish('task.updated', { task_id: 't-9' });
  await page.getByRole('row', { name: /task.updated/ }).getByRole('link').click();
  await page.getByText('"task_id": "t-9"').waitFor();
  await page.getByText('Success', { exact: true }).first().waitFor();
  await page.getByText('← Deliveries').click();

  await link(page, 'Webhooks').click();
  await link(page, 'Deployed webhook').click();
  await button(page, 'Pause').click();
  await page.getByText('You paused this webhook.').first().waitFor();
  await button(page, 'Resume').click();
  await page.getByText('Deliveries are sent.').waitFor();
  await button(page, 'Delete').click();
  await page.getByLabel('Type Deployed webhook to confirm').fill('Deployed webhook');
  await page.locator('dialog').getByRole('button', { name: 'Delete webhook' }).click();
  await page.getByText('No webhooks yet').waitFor();

  const stored = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]));
  assert.equal(stored, '[{},{},""]');
  assert.deepEqual(page.failures, []);
  await page.context().close();
});
