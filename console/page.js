/** The page at `/console`: signs in, then shows the element. Tokens stay in memory. */
import { html, render, useState } from './vendor/preact-htm.js';
import { Router } from './router.js';
import { texts } from './texts.js';
import { WebhooksConsole } from './webhooks-console.js';

/** @import { Config } from './types.js' */

const place = /** @type {HTMLElement} */ (document.getElementById('console'));

/** @returns {Promise<Config>} */
async function configuration() {
  const response = await fetch('/console/config.json', { cache: 'no-store' });
  if (!response.ok) throw new Error(texts.errors.status(response.status));
  return response.json();
}

/** A token of the local system. @param {string} url */
async function localToken(url) {
  const response = await fetch(url, { method: 'POST', cache: 'no-store' });
  if (!response.ok) throw new Error(texts.signIn.local);
  return /** @type {{ token: string }} */ (await response.json()).token;
}

/** @param {Config} config @param {string} token */
function show(config, token) {
  render(null, place);
  const element = new WebhooksConsole();
  element.setAttribute('api-url', config.api_url || location.origin);
  element.setAttribute('token', token);
  const renew = async () => {
    if (config.token_url) element.setAttribute('token', await localToken(config.token_url));
  };
  element.options = {
    router: new Router(true),
    development: config.development,
    onTheme: (theme) => element.setAttribute('theme', theme),
    onUnauthorized: () => void renew().catch(() => {}),
    onSignOut: config.token_url ? null : () => location.replace('/console'),
  };
  place.replaceChildren(element);
}

/** @param {{ onSignIn: () => Promise<void>, error: string | null }} props */
function SignIn({ onSignIn, error }) {
  const [failure, setFailure] = useState(error);
  const [busy, setBusy] = useState(false);
  const start = async () => {
    setBusy(true);
    try {
      await onSignIn();
    } catch (problem) {
      setFailure(`${texts.signIn.failed} ${/** @type {Error} */ (problem).message}`);
      setBusy(false);
    }
  };
  return html`<main>
    <h1>${texts.title}</h1>
    ${failure && html`<p role="alert">${failure}</p>`}
    <p>${texts.signIn.explain}</p>
    <button type="button" onClick=${start} disabled=${busy}>${texts.signIn.button}</button>
  </main>`;
}

async function start() {
  const config = await configuration();
  if (config.token_url) return show(config, await localToken(config.token_url));
  const oidc = await import('./oidc.js');
  /** @type {string | null} */
  let error = null;
  if (oidc.isReturning()) {
    try {
      return show(config, await oidc.finish(config));
    } catch (problem) {
      error = `${texts.signIn.failed} ${/** @type {Error} */ (problem).message}`;
    }
  }
  render(html`<${SignIn} error=${error} onSignIn=${() => oidc.begin(config)} />`, place);
}

start().catch((error) => render(html`<p role="alert">${error.message}</p>`, place));
