// Verifies Ed25519 webhook signatures. Needs only Node.
'use strict';

const { createPublicKey, verify } = require('node:crypto');

const TOLERANCE_SECONDS = 300;
const DER_PREFIX = Buffer.from('302a300506032b6570032100', 'hex'); // RFC 8410: an Ed25519 key follows.

// Whether `webhook-signature` is valid. `publicKey` is the webhook's `public_key`, `headers` has
// lower-case names, as `req.headers` does, and `body` is a Buffer of the raw bytes of the request.
function verifyEd25519(publicKey, headers, body, now = Date.now() / 1000) {
  const timestamp = headers['webhook-timestamp'] ?? '';
  if (!Buffer.isBuffer(body) || !/^[0-9]{1,11}$/.test(timestamp)) return false;
  if (Math.abs(now - Number(timestamp)) > TOLERANCE_SECONDS) return false;
  const match = /^whpk_([A-Za-z0-9+/]{43}=)$/.exec(publicKey ?? '');
  if (!match) return false;
  const der = Buffer.concat([DER_PREFIX, Buffer.from(match[1], 'base64')]);
  const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
  const signed = Buffer.concat([Buffer.from(`${headers['webhook-id'] ?? ''}.${timestamp}.`), body]);
  return (headers['webhook-signature'] ?? '').split(' ').some((one) => {
    const signature = /^v1a,([A-Za-z0-9+/]{86}==)$/.exec(one);
    return signature !== null && verify(null, signed, key, Buffer.from(signature[1], 'base64'));
  });
}

module.exports = { verifyEd25519 };
