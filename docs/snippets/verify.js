// Verifies webhook signatures. Needs nothing but Node.
'use strict';

const { createHmac, timingSafeEqual } = require('node:crypto');

const TOLERANCE_SECONDS = 300;

function same(expected, given) {
  const [a, b] = [Buffer.from(expected), Buffer.from(given)];
  return a.length === b.length && timingSafeEqual(a, b);
}

// Whether `webhook-signature` fits. `headers` has lower-case names, as `req.headers` does;
// `body` is a Buffer of the raw bytes of the request.
function verifyStandard(secret, headers, body, now = Date.now() / 1000) {
  const timestamp = headers['webhook-timestamp'] ?? '';
  if (!/^[0-9]+$/.test(timestamp)) return false;
  if (Math.abs(now - Number(timestamp)) > TOLERANCE_SECONDS) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const expected = createHmac('sha256', key)
    .update(`${headers['webhook-id'] ?? ''}.${timestamp}.`)
    .update(body)
    .digest('base64');
  const given = (headers['webhook-signature'] ?? '').split(' ');
  return given.some((one) => same(`v1,${expected}`, one));
}

// Whether `X-Webhook-Signature` fits.
function verifyReference(secret, headers, body) {
  const expected = createHmac('sha256', secret).update(body).digest('hex');
  return same(`sha256=${expected}`, headers['x-webhook-signature'] ?? '');
}

module.exports = { verifyStandard, verifyReference };
