/**
 * The console as an element, for a product's own settings page:
 *
 *     <script type="module" src="https://webhooks.example.com/console/webhooks-console.js"></script>
 *     <webhooks-console api-url="https://webhooks.example.com" token="eyJ…"></webhooks-console>
 *
 * `theme` is `auto` (default), `light` or `dark`. The variables of `style.css` change its look. When
 * the API refuses the token, the element sends the event `webhooks-console:unauthorized`; set a new
 * `token` then.
 */
import { html, render } from './vendor/preact-htm.js';
import { App } from './app.js';
import { Router } from './router.js';

/** @import { Options } from './app.js' */

export class WebhooksConsole extends HTMLElement {
  static observedAttributes = ['api-url', 'token', 'theme'];

  constructor() {
    super();
    this.root = this.attachShadow({ mode: 'open' });
    const style = document.createElement('link');
    style.rel = 'stylesheet';
    style.href = new URL('./style.css', import.meta.url).href;
    this.place = document.createElement('div');
    this.place.className = 'place';
    this.root.append(style, this.place);
    /** @type {Router | null} */
    this.router = null;
    /** What the page of the console sets. @type {Partial<Options>} */
    this.options = {};
  }

  connectedCallback() {
    this.router ??= this.options.router ?? new Router(false);
    this.update();
  }

  disconnectedCallback() {
    render(null, this.place);
    this.router?.stop();
    this.router = null;
  }

  attributeChangedCallback() {
    if (this.router) this.update();
  }

  update() {
    if (!this.router) return;
    this.place.dataset.theme = this.getAttribute('theme') ?? 'auto';
    /** @type {Options} */
    const options = {
      apiUrl: (this.getAttribute('api-url') ?? '').replace(/\/+$/, ''),
      token: () => this.getAttribute('token'),
      router: this.router,
      development: false,
      onSignOut: null,
      onTheme: null,
      onUnauthorized: () => this.dispatchEvent(new CustomEvent('webhooks-console:unauthorized', { bubbles: true, composed: true })),
      ...this.options,
    };
    render(html`<${App} options=${options} />`, this.place);
  }
}

if (!customElements.get('webhooks-console')) customElements.define('webhooks-console', WebhooksConsole);
