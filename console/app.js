/** The console: its navigation and its pages. */
import { html, useEffect, useMemo, useRef, useState } from './vendor/preact-htm.js';
import { Api } from './api.js';
import { Lazy } from './lazy.js';
import { DeliveriesPage } from './pages/deliveries.js';
import { DeliveryPage } from './pages/delivery.js';
import { FormPage } from './pages/form.js';
import { WebhookPage } from './pages/webhook.js';
import { WebhooksPage } from './pages/webhooks.js';
import { texts } from './texts.js';
import { AppProvider, Failure, Link } from './ui.js';

/** @import { Router } from './router.js' */

/** How long a message is shown. */
const NOTICE_MS = 6_000;
const THEMES = /** @type {const} */ (['auto', 'light', 'dark']);

/**
 * @typedef {object} Options
 * @property {string} apiUrl
 * @property {() => string | null} token
 * @property {Router} router
 * @property {boolean} development
 * @property {() => void} onUnauthorized
 * @property {(() => void) | null} onSignOut
 * @property {((theme: string) => void) | null} onTheme Null when another page chooses the theme
 */

/** @param {{ options: Options }} props */
export function App({ options }) {
  const { router } = options;
  const [, setPath] = useState(router.path);
  const [notice, setNotice] = useState(/** @type {{ text: string, error: boolean } | null} */ (null));
  const [expired, setExpired] = useState(false);
  const main = useRef(/** @type {HTMLElement | null} */ (null));
  const app = useMemo(() => ({
    api: new Api(options.apiUrl, () => options.token(), () => {
      setExpired(true);
      options.onUnauthorized();
    }),
    router,
    development: options.development,
    secrets: new Map(),
    notify: (/** @type {string} */ text, error = false) => setNotice({ text, error }),
  }), [options.apiUrl, router]);

  useEffect(() => {
    const changed = () => {
      setPath(router.path);
      // A keyboard or a screen reader goes on at the new page.
      main.current?.focus({ preventScroll: true });
    };
    router.addEventListener('change', changed);
    return () => router.removeEventListener('change', changed);
  }, [router]);
  useEffect(() => {
    if (!notice) return undefined;
    const timer = setTimeout(() => setNotice(null), NOTICE_MS);
    return () => clearTimeout(timer);
  }, [notice]);
  // A new token, which a product gives the element, ends the message about the old one.
  const token = options.token();
  useEffect(() => setExpired(false), [token]);

  const [section, id, tab, delivery] = router.parts;
  return html`<${AppProvider} value=${app}>
    <div class="console">
      <header class="top">
        <nav aria-label=${texts.nav.label}>
          <${Link} to="/" current=${section === undefined || section === 'webhooks'}>${texts.nav.webhooks}<//>
          <${Link} to="/deliveries" current=${section === 'deliveries'}>${texts.nav.deliveries}<//>
          <${Link} to="/event-types" current=${section === 'event-types'}>${texts.nav.catalogue}<//>
          <${Link} to="/signature" current=${section === 'signature'}>${texts.nav.signature}<//>
        </nav>
        <div class="settings">
          ${options.onTheme && html`<${Theme} onTheme=${options.onTheme} />`}
          ${options.onSignOut && html`<button type="button" class="quiet" onClick=${options.onSignOut}>${texts.nav.signOut}</button>`}
        </div>
      </header>
      <main ref=${main} tabindex="-1">
        ${expired && html`<${Failure} error=${new Error(texts.errors.unauthorized)} />`}
        ${page(section, id, tab, delivery)}
      </main>
      <div class="toast" role="status">${notice && html`<p class=${notice.error ? 'notice bad' : 'notice good'}>${notice.text}</p>`}</div>
    </div>
  <//>`;
}

/** The page of a route. @param {string} [section] @param {string} [id] @param {string} [tab] @param {string} [delivery] */
function page(section = '', id = '', tab = 'overview', delivery = '') {
  if (section === '') return html`<${WebhooksPage} />`;
  if (section === 'create') return html`<${FormPage} />`;
  if (section === 'deliveries') return html`<${DeliveriesPage} />`;
  if (section === 'event-types') return html`<${Lazy} key="event-types" load=${() => import('./pages/catalogue.js')} />`;
  if (section === 'signature') return html`<${Lazy} key="signature" load=${() => import('./pages/signature.js')} />`;
  if (section === 'webhooks' && id) {
    if (tab === 'edit') return html`<${FormPage} key=${id} id=${id} />`;
    if (tab === 'deliveries' && delivery) return html`<${DeliveryPage} key=${delivery} id=${id} delivery=${delivery} />`;
    if (tab in texts.webhook.tabs) return html`<${WebhookPage} key=${id} id=${id} tab=${tab} />`;
  }
  return html`<${Failure} error=${new Error(texts.errors.notFound)} />`;
}

/** @param {{ onTheme: (theme: string) => void }} props */
function Theme({ onTheme }) {
  const [theme, setTheme] = useState('auto');
  return html`<select aria-label=${texts.theme.label} onChange=${(/** @type {any} */ event) => {
    setTheme(event.currentTarget.value);
    onTheme(event.currentTarget.value);
  }}>
    ${THEMES.map((name) => html`<option key=${name} value=${name} selected=${name === theme}>${texts.theme[name]}</option>`)}
  </select>`;
}
