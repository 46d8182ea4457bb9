// Verifies webhook signatures. Needs only Node.
'use strict';

const { createHmac, timingSafeEqual } = require('node:crypto');

const TOLERANCE_SECONDS = 300;

// The key of a `whsec_` secret: 24 to 64 bytes. Undefined for any other string.
function secretKey(secret) {
  const match = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(secret ?? '');
  if (!match || match[1].length % 4 !== 0) return undefined;
  const key = Buffer.from(match[1], 'base64');
  return key.length >= 24 && key.length <= 64 ? key : undefined;
}

function same(expected, given) {
  const [a, b] = [Buffer.from(expected), Buffer.from(given)];
  return a.length === b.length && timingSafeEqual(a, b);
}

// Whether `webhook-signature` is valid. `headers` has lower-case names, as `req.headers` does.
// `body` is a Buffer of the raw bytes of the request.
function verifyStandard(secret, headers, body, now = Date.now() / 1000) {
  const key = secretKey(secret);
  const timestamp = headers['webhook-timestamp'] ?? '';
  if (!key || !Buffer.isBuffer(body) || !/^[0-9]{1,11}$/.test(timestamp)) return false;
  if (Math.abs(now - Number(timestamp)) > TOLERANCE_SECONDS) return false;
  const expected = createHmac('sha256', key)
    .update(`${headers['webhook-id'] ?? ''}.${timestamp}.`)
    .update(body)
    .digest('base64');
  const given = (headers['webhook-signature'] ?? '').split(' ');
  return given.some((one) => same(`v1,${expected}`, one));
}

// Whether `X-Webhook-Signature` is valid.
function verifyReference(secret, headers, body) {
  if (!secretKey(secret) || !Buffer.isBuffer(body)) return false;
  const expected = createHmac('sha256', secret).update(body).digest('hex');
  return same(`sha256=${expected}`, headers['x-webhook-signature'] ?? '');
}

module.exports = { verifyStandard, verifyReference };
