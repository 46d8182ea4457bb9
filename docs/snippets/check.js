// Runs verify.js and verify_ed25519.js against their vectors: node docs/snippets/check.js
'use strict';

const assert = require('node:assert');
const { verifyReference, verifyStandard } = require('./verify.js');
const { verifyEd25519 } = require('./verify_ed25519.js');
const vector = require('./vector.json');
const ed25519 = require('./vector_ed25519.json');

for (const one of vector.cases) {
  const { secret, body, now } = { ...vector, ...one };
  const headers = { ...vector.headers, ...one.headers };
  const bytes = Buffer.from(body);
  assert.strictEqual(verifyStandard(secret, headers, bytes, now), one.standard, one.name);
  assert.strictEqual(verifyReference(secret, headers, bytes), one.reference, one.name);
}
console.log(`verify.js: ${vector.cases.length} cases as expected`);

for (const one of ed25519.cases) {
  const { public_key: publicKey, body, now } = { ...ed25519, ...one };
  const headers = { ...ed25519.headers, ...one.headers };
  const valid = verifyEd25519(publicKey, headers, Buffer.from(body), now);
  assert.strictEqual(valid, one.valid, one.name);
}
console.log(`verify_ed25519.js: ${ed25519.cases.length} cases as expected`);
