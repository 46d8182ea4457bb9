/** The event catalogue, with schemas and examples. */
import { html, useState } from '../vendor/preact-htm.js';
import { texts } from '../texts.js';
import { Code, Failure, Field, Loading, useApp, useLoad } from '../ui.js';

const t = texts.catalogue;

export default function CataloguePage() {
  const { api } = useApp();
  const [search, setSearch] = useState('');
  const loaded = useLoad(() => api.eventTypes(), []);
  const wanted = search.trim().toLowerCase();
  const types = (loaded.data?.items ?? []).filter((type) => `${type.name} ${type.description}`.toLowerCase().includes(wanted));
  return html`<section>
    <h1>${t.title}</h1>
    <p>${t.explain}</p>
    <${Failure} error=${loaded.error} retry=${loaded.reload} />
    ${!loaded.data && !loaded.error && html`<${Loading} />`}
    ${loaded.data && html`<${Field} label=${t.search}>
      ${(/** @type {any} */ attributes) => html`<input type="search" ...${attributes} value=${search} onInput=${(/** @type {any} */ event) => setSearch(event.currentTarget.value)} />`}
    <//>`}
    ${loaded.data && types.length === 0 && html`<p>${t.none}</p>`}
    ${types.map((type) => html`<details class="attempt" key=${type.name}>
      <summary><code>${type.name}</code> <span class="muted">${type.description}</span></summary>
      ${type.example !== undefined && html`<h3>${t.example}</h3><${Code} text=${JSON.stringify(type.example, null, 2)} label=${`${t.example} ${type.name}`} />`}
      ${type.schema !== undefined && html`<h3>${t.schema}</h3><${Code} text=${JSON.stringify(type.schema, null, 2)} label=${`${t.schema} ${type.name}`} />`}
    </details>`)}
  </section>`;
}
