// The signature check of the console, with the signed request of docs/snippets/vector.json.
import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { check } from '../../console/signature_check.js';
import { texts } from '../../console/texts.js';

const { reasons } = texts.signature;
const vector = JSON.parse(readFileSync(new URL('../../docs/snippets/vector.json', import.meta.url), 'utf8'));

const shown = (headers) => Object.entries(headers).map(([name, value]) => `${name}: ${value}`).join('\n');

/** The request of the vector, with changes. */
function request({ headers = {}, ...changes }) {
  const all = { ...vector.headers, ...headers };
  for (const [name, value] of Object.entries(all)) if (value === null) delete all[name];
  return { secret: vector.secret, body: vector.body, now: vector.now, ...changes, headers: shown(all) };
}

async function outcome(changes) {
  const { error, results } = await check(request(changes));
  return error ?? Object.fromEntries(results.map((result) => [result.scheme, result.reason ?? result.valid]));
}

test('unchanged request is valid in both schemes', async () => {
  assert.deepEqual(await outcome({}), { standard: true, reference: true });
  assert.deepEqual(await outcome({ secret: vector.previous_secret }), { standard: true, reference: reasons.wrong });
});

test('each frequent mistake is named', async () => {
  const { 'webhook-signature': both, 'x-webhook-signature': reference } = vector.headers;
  const first = both.split(' ')[0];
  const json = JSON.parse(vector.body);
  const wrong = reasons.wrong;
  const cases = [
    [{ secret: '' }, reasons.noSecret],
    [{ secret: 'hello' }, reasons.secretForm],
    [{ secret: 'whsec_' + btoa('short') }, reasons.secretLength],
    [{ secret: `${vector.secret}\n` }, { standard: reasons.secretSpace, reference: reasons.secretSpace }],
    [{ secret: 'whsec_' + btoa('another key of 32 bytes, at least') }, { standard: wrong, reference: wrong }],
    [{ headers: { 'webhook-signature': null, 'x-webhook-signature': null } }, reasons.noSignature],
    [{ headers: { 'webhook-id': null } }, { standard: reasons.noId, reference: true }],
    [{ headers: { 'webhook-timestamp': 'now' } }, { standard: reasons.noTimestamp, reference: true }],
    [{ headers: { 'webhook-id': 'dlv_2' } }, { standard: reasons.otherTimestamp, reference: true }],
    [{ headers: { 'webhook-signature': first.slice(3) } }, { standard: reasons.prefix, reference: true }],
    [{ headers: { 'webhook-signature': 'v1a,AAAA' } }, { standard: reasons.noScheme, reference: true }],
    [{ headers: { 'x-webhook-signature': reference.slice(7) } }, { standard: true, reference: reasons.prefix }],
    [{ now: vector.now + 301 }, { standard: reasons.stale(301), reference: true }],
    [{ now: vector.now - 301 }, { standard: reasons.stale(-301), reference: true }],
    [{ body: JSON.stringify(json, null, 2) }, { standard: reasons.reformatted, reference: reasons.reformatted }],
    [{ body: JSON.stringify(json) }, { standard: reasons.encoding, reference: reasons.encoding }],
    [{ body: `${vector.body}\n` }, { standard: reasons.whitespace, reference: reasons.whitespace }],
    [{ body: '{}' }, { standard: wrong, reference: wrong }],
  ];
  for (const [changes, expected] of cases) {
    assert.deepEqual(await outcome(changes), expected, JSON.stringify(changes));
  }
});

test('Ed25519 signature is checked with the public key', async () => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  const signed = `${vector.headers['webhook-id']}.${vector.now}.${vector.body}`;
  const signature = `v1a,${sign(null, Buffer.from(signed), privateKey).toString('base64')}`;
  const secret = `whpk_${raw.toString('base64')}`;
  const headers = { 'webhook-signature': signature, 'x-webhook-signature': null };
  assert.deepEqual(await outcome({ secret, headers }), { ed25519: true });
  assert.deepEqual(await outcome({ secret, headers, body: '{}' }), { ed25519: reasons.wrong });
  const reformatted = JSON.stringify(JSON.parse(vector.body), null, 2);
  assert.deepEqual(await outcome({ secret, headers, body: reformatted }), { ed25519: reasons.reformatted });
});
