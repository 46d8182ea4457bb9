// Runs verify.js against vector.json: node docs/snippets/check.js
'use strict';

const assert = require('node:assert');
const { verifyReference, verifyStandard } = require('./verify.js');
const vector = require('./vector.json');

for (const one of vector.cases) {
  const { secret, body, now } = { ...vector, ...one };
  const headers = { ...vector.headers, ...one.headers };
  const bytes = Buffer.from(body);
  assert.strictEqual(verifyStandard(secret, headers, bytes, now), one.standard, one.name);
  assert.strictEqual(verifyReference(secret, headers, bytes), one.reference, one.name);
}
console.log(`verify.js: ${vector.cases.length} cases as expected`);
