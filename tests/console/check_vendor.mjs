// Compares the vendored libraries with the packages that they come from.
import { readFileSync } from 'node:fs';

const here = (path) => new URL(path, import.meta.url);
const FILES = {
  'preact-htm.js': 'htm/preact/standalone.module.js',
  'oauth4webapi.js': 'oauth4webapi/build/index.js',
};

for (const [file, published] of Object.entries(FILES)) {
  const lines = readFileSync(here(`node_modules/${published}`), 'utf8').split('\n');
  const expected = lines.filter((line) => !line.includes('sourceMappingURL')).join('\n');
  if (readFileSync(here(`../../console/vendor/${file}`), 'utf8') !== expected) {
    console.error(`console/vendor/${file} differs from ${published}`);
    process.exitCode = 1;
  }
}
