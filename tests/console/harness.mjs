// Starts `cargo dev` on free ports, an issuer and a browser, for the tests of the console.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
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

/**
 * An OpenID Connect issuer at which the user is signed in already. It gives out a token only to who proves by PKCE to
 * have begun the sign-in.
 */
export async function startIssuer({ port = 0, tls, clientId, accessToken, keys = [] }) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const begun = new Map();
  const issuer = { used: 0 };
  const answer = async (request, response) => {
    const url = new URL(request.url, issuer.origin);
    const cors = { 'access-control-allow-origin': '*', 'access-control-allow-headers': '*' };
    const json = (value, status = 200) => response.writeHead(status, { ...cors, 'content-type': 'application/json' }).end(JSON.stringify(value));
    if (request.method === 'OPTIONS') return response.writeHead(204, cors).end();
    if (url.pathname === '/.well-known/openid-configuration') {
      const [authorization_endpoint, token_endpoint, jwks_uri] = ['authorize', 'token', 'jwks'].map((name) => `${issuer.origin}/${name}`);
      return json({ issuer: issuer.origin, authorization_endpoint, token_endpoint, jwks_uri });
    }
    if (url.pathname === '/jwks') return json({ keys });
    if (url.pathname === '/authorize') {
      const code = `code-${begun.size + 1}`;
      begun.set(code, Object.fromEntries(url.searchParams));
      const back = new URL(url.searchParams.get('redirect_uri'));
      back.search = new URLSearchParams({ code, state: url.searchParams.get('state') });
      return response.writeHead(302, { location: back.href }).end();
    }
    let body = '';
    for await (const chunk of request) body += chunk;
    const given = Object.fromEntries(new URLSearchParams(body));
    const { nonce, client_id, redirect_uri, code_challenge } = begun.get(given.code) ?? {};
    const challenge = createHash('sha256').update(given.code_verifier ?? '').digest('base64url');
    if (challenge !== code_challenge || redirect_uri !== given.redirect_uri || client_id !== clientId) return json({ error: 'invalid_grant' }, 400);
    begun.delete(given.code);
    issuer.used += 1;
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: issuer.origin, sub: 'dev', aud: clientId, nonce, iat: now, exp: now + 300 };
    return json({ access_token: accessToken(issuer.origin), token_type: 'Bearer', id_token: `${part({ alg: 'RS256' })}.${part(claims)}.${part('signature')}` });
  };
  const server = tls ? createHttpsServer(tls, answer) : createHttpServer(answer);
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  issuer.origin = tls ? `https://localhost:${server.address().port}` : `http://127.0.0.1:${server.address().port}`;
  issuer.stop = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return issuer;
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
