// Validates asyncapi.yaml with the parser of the AsyncAPI Initiative. Warnings are mistakes, too.

const { readFileSync } = require('node:fs');
const { Parser } = require('@asyncapi/parser');

new Parser().parse(readFileSync(process.argv[2], 'utf8')).then(({ diagnostics }) => {
  for (const { path, message } of diagnostics) console.log(`asyncapi.yaml: ${path.join('/')}: ${message}`);
  process.exitCode = diagnostics.length;
});
