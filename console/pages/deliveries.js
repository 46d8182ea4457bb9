/** The history of a webhook, or of all webhooks: filters, live updates, page by page. */
import { html, useEffect, useRef, useState } from '../vendor/preact-htm.js';
import { texts } from '../texts.js';
import { Failure, Field, Link, Loading, StatusBadge, Time, nameOf, shownDuration, useApp, useInterval, useLoad, utc } from '../ui.js';

/** @import { Delivery, Page, Webhook } from '../types.js' */

const t = texts.deliveries;
const NO_FILTER = { webhook_id: '', event_id: '', status: '', event_type: '', since: '', until: '' };
const LIVE_MS = 3_000;

/** @param {{ webhook: Webhook }} props */
export function DeliveriesTab({ webhook }) {
  const { api } = useApp();
  return html`<${Deliveries} load=${(/** @type {any} */ query) => api.deliveries(webhook.id, query)} />`;
}

/** The deliveries of all webhooks. */
export function DeliveriesPage() {
  const { api } = useApp();
  const webhooks = useLoad(() => api.allWebhooks(), []);
  return html`<section>
    <h1>${t.allTitle}</h1>
    <${Deliveries} load=${(/** @type {any} */ query) => api.allDeliveries(query)} webhooks=${webhooks.data?.items ?? []} />
  </section>`;
}

/**
 * @param {{ load: (query: any) => Promise<Page<Delivery>>, webhooks?: Webhook[] }} props
 * `webhooks` are given where the list has more than one.
 */
function Deliveries({ load, webhooks }) {
  const { api, router } = useApp();
  const asked = new URLSearchParams(router.path.split('?')[1] ?? '');
  const [filter, setFilter] = useState({ ...NO_FILTER, status: asked.get('status') ?? '' });
  // What is being typed. A live update must not take it away.
  const [typedId, setTypedId] = useState('');
  const [live, setLive] = useState(true);
  const [items, setItems] = useState(/** @type {Delivery[]} */ ([]));
  const [cursor, setCursor] = useState(/** @type {string | null} */ (null));
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const paged = useRef(false);
  const catalogue = useLoad(() => api.eventTypes(), []);
  const query = { limit: 25, ...filter, since: utc(filter.since), until: utc(filter.until) };
  const first = useLoad(() => load(query), [JSON.stringify(filter)]);

  useEffect(() => {
    if (!first.data) return;
    const { items: newest, next_cursor } = first.data;
    if (paged.current) {
      // Older pages stay; what is on the first page takes its newer state.
      const known = new Set(newest.map((delivery) => delivery.id));
      setItems((before) => [...newest, ...before.filter((delivery) => !known.has(delivery.id))].sort(newestFirst));
    } else {
      setItems(newest);
      setCursor(next_cursor);
    }
  }, [first.data]);
  useInterval(first.reload, live ? LIVE_MS : null);

  const more = async () => {
    paged.current = true;
    try {
      const page = await load({ ...query, cursor });
      setItems((before) => [...before, ...page.items]);
      setCursor(page.next_cursor);
      setError(null);
    } catch (problem) {
      setError(/** @type {Error} */ (problem));
    }
  };
  /** @param {Partial<typeof filter>} change */
  const change = (change) => {
    paged.current = false;
    setFilter((before) => ({ ...before, ...change }));
  };
  const clear = () => {
    setTypedId('');
    change(NO_FILTER);
  };
  const filtered = Object.values(filter).some(Boolean);
  /** @param {'since' | 'until'} name */
  const moment = (name) => html`<${Field} label=${t[name]}>
    ${(/** @type {any} */ attributes) => html`<input type="datetime-local" ...${attributes} value=${filter[name]} onChange=${(/** @type {any} */ event) => change({ [name]: event.currentTarget.value })} />`}
  <//>`;

  return html`<div>
    <form class="filters" role="search" aria-label=${t.filters} onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      ${webhooks && html`<${Field} label=${t.webhook}>
        ${(/** @type {any} */ attributes) => html`<select ...${attributes} onChange=${(/** @type {any} */ event) => change({ webhook_id: event.currentTarget.value })}>
          <option value="" selected=${filter.webhook_id === ''}>${t.anyWebhook}</option>
          ${webhooks.map((webhook) => html`<option key=${webhook.id} value=${webhook.id} selected=${filter.webhook_id === webhook.id}>${nameOf(webhook)}</option>`)}
        </select>`}
      <//>
      <${Field} label=${t.eventId}>
        ${(/** @type {any} */ attributes) => html`<input type="search" ...${attributes} value=${typedId} onInput=${(/** @type {any} */ event) => setTypedId(event.currentTarget.value)} onChange=${(/** @type {any} */ event) => change({ event_id: event.currentTarget.value.trim() })} />`}
      <//>`}
      <${Field} label=${t.status}>
        ${(/** @type {any} */ attributes) => html`<select ...${attributes} onChange=${(/** @type {any} */ event) => change({ status: event.currentTarget.value })}>
          <option value="" selected=${filter.status === ''}>${t.anyStatus}</option>
          ${Object.entries(t.statuses).map(([value, label]) => html`<option key=${value} value=${value} selected=${filter.status === value}>${label}</option>`)}
        </select>`}
      <//>
      <${Field} label=${t.eventType}>
        ${(/** @type {any} */ attributes) => html`<select ...${attributes} onChange=${(/** @type {any} */ event) => change({ event_type: event.currentTarget.value })}>
          <option value="" selected=${filter.event_type === ''}>${t.anyType}</option>
          ${(catalogue.data?.items ?? []).map((type) => html`<option key=${type.name} value=${type.name} selected=${filter.event_type === type.name}>${type.name}</option>`)}
        </select>`}
      <//>
      ${moment('since')} ${moment('until')}
      ${filtered && html`<button type="button" onClick=${clear}>${t.clear}</button>`}
      <label class="check"><input type="checkbox" checked=${live} onChange=${(/** @type {any} */ event) => setLive(event.currentTarget.checked)} /> <span>${t.live}</span></label>
    </form>
    <${Failure} error=${first.error ?? error} retry=${first.reload} />
    ${!first.data && !first.error && html`<${Loading} />`}
    ${first.data && items.length === 0 && html`<p class="empty">${filtered ? (cursor ? t.emptyPage : t.emptyFilter) : t.empty}</p>`}
    ${items.length > 0 && html`<table class="cards deliveries">
      <caption class="hidden">${t.title}</caption>
      <thead><tr>
        <th scope="col">${t.time}</th>${webhooks && html`<th scope="col">${t.webhook}</th>`}<th scope="col">${t.status}</th><th scope="col">${t.event}</th>
        <th scope="col">${t.attempts}</th><th scope="col">${t.response}</th>
      </tr></thead>
      <tbody>${items.map((delivery) => html`<${Row} key=${delivery.id} delivery=${delivery} webhooks=${webhooks} />`)}</tbody>
    </table>`}
    ${cursor && html`<button type="button" onClick=${more}>${texts.more}</button>`}
  </div>`;
}

/** @param {Delivery} a @param {Delivery} b */
const newestFirst = (a, b) => (a.id < b.id ? 1 : -1);

/** @param {{ delivery: Delivery, webhooks?: Webhook[] }} props */
function Row({ delivery, webhooks }) {
  const { trigger } = delivery;
  const webhook = webhooks?.find((webhook) => webhook.id === delivery.webhook_id);
  return html`<tr>
    <th scope="row" data-label=${t.time}>
      <${Link} to=${`/webhooks/${delivery.webhook_id}/deliveries/${delivery.id}`}><${Time} at=${delivery.created_at} /><//>
    </th>
    ${webhooks && html`<td data-label=${t.webhook}><${Link} to=${`/webhooks/${delivery.webhook_id}`}>${webhook ? nameOf(webhook) : delivery.webhook_id}<//></td>`}
    <td data-label=${t.status}><${StatusBadge} status=${delivery.status} /></td>
    <td data-label=${t.event}>${delivery.event_type}${trigger !== 'event' && html` <span class="muted">${t.triggers[trigger] ?? trigger}</span>`}</td>
    <td data-label=${t.attempts}>${delivery.attempt_count}</td>
    <td data-label=${t.response}>
      ${delivery.response_status ?? ''} ${delivery.error ?? ''} <span class="muted">${shownDuration(delivery.duration_ms)}</span>
    </td>
  </tr>`;
}
