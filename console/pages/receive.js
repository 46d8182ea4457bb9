/** How to receive: code for the chosen language, with the values of this webhook. */
import { html, useState } from '../vendor/preact-htm.js';
import { texts } from '../texts.js';
import { Code, Failure, Field, Link, Loading, useApp, useLoad } from '../ui.js';

/** @import { Webhook } from '../types.js' */

const t = texts.receive;

/** The files of docs/snippets. @type {Record<string, { name: string, verify: string, endpoint: string | null }>} */
const LANGUAGES = {
  python: { name: 'Python', verify: 'verify.py', endpoint: 'endpoint.py' },
  node: { name: 'Node.js', verify: 'verify.js', endpoint: 'endpoint.js' },
  rust: { name: 'Rust', verify: 'verify.rs', endpoint: 'endpoint.rs' },
  go: { name: 'Go', verify: 'verify.go', endpoint: null },
};

/** @param {string} file */
async function snippet(file) {
  const response = await fetch(new URL(`../snippets/${file}`, import.meta.url), { credentials: 'omit' });
  if (!response.ok) throw new Error(texts.errors.status(response.status));
  return response.text();
}

/** The path of the endpoint instead of the example's. @param {string} code @param {string} url */
const withPath = (code, url) => code.replaceAll('"/webhook"', JSON.stringify(new URL(url).pathname)).replaceAll("'/webhook'", `'${new URL(url).pathname}'`);

/** @param {{ webhook: Webhook }} props */
export default function Receive({ webhook }) {
  const { secrets } = useApp();
  const [language, setLanguage] = useState('python');
  const { verify, endpoint } = LANGUAGES[language];
  const code = useLoad(() => Promise.all([snippet(verify), endpoint ? snippet(endpoint) : null]), [language]);
  const secret = secrets.get(webhook.id);
  const values = [
    `# ${webhook.url}`,
    `# ${webhook.event_types.join(', ')}`,
    `export WEBHOOK_SECRET=${secret ?? 'whsec_…'}`,
    ...(webhook.public_key ? [`export WEBHOOK_PUBLIC_KEY=${webhook.public_key}`] : []),
  ].join('\n');
  return html`<div>
    <p>${t.explain}</p>
    <${Field} label=${t.language}>
      ${(/** @type {any} */ attributes) => html`<select ...${attributes} onChange=${(/** @type {any} */ event) => setLanguage(event.currentTarget.value)}>
        ${Object.entries(LANGUAGES).map(([key, { name }]) => html`<option key=${key} value=${key} selected=${key === language}>${name}</option>`)}
      </select>`}
    <//>
    <h2>${t.values}</h2>
    <${Code} text=${values} label=${t.values} />
    ${!secret && html`<p class="help">${t.secretUnknown}</p>`}
    <${Failure} error=${code.error} retry=${code.reload} />
    ${!code.data && !code.error && html`<${Loading} />`}
    ${code.data?.[1] && html`<h2>${t.endpoint}</h2><${Code} text=${withPath(code.data[1], webhook.url)} label=${t.endpoint} />`}
    ${code.data && html`<h2>${t.verify} (<code>${verify}</code>)</h2><${Code} text=${code.data[0]} label=${t.verify} />`}
    <p><${Link} to="/signature">${t.debug}<//></p>
  </div>`;
}
