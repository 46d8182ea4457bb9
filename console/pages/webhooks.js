/** The list of webhooks, with their health at a glance. */
import { html, useEffect, useRef, useState } from '../vendor/preact-htm.js';
import { Bars } from '../charts.js';
import { texts } from '../texts.js';
import { Failure, Link, Loading, State, Time, useApp, useInterval, useLoad } from '../ui.js';

/** @import { Bucket, Webhook } from '../types.js' */

const HOUR = 3_600_000;

/** The counters of each of the last 24 hours, also of those without deliveries. @param {Bucket[]} items */
function lastDay(items) {
  const end = Math.floor(Date.now() / HOUR) * HOUR;
  const known = new Map(items.map((bucket) => [Date.parse(bucket.start), bucket]));
  return Array.from({ length: 24 }, (_, index) => {
    const start = end - (23 - index) * HOUR;
    const bucket = known.get(start);
    const [success, failed] = [bucket?.success ?? 0, bucket?.failed ?? 0];
    return { success, failed, title: `${new Date(start).toLocaleTimeString('en-GB', { timeStyle: 'short' })}: ${success} / ${failed}` };
  });
}

/** @param {{ webhook: Webhook }} props */
function LastDay({ webhook }) {
  const { api } = useApp();
  const since = new Date(Math.floor(Date.now() / HOUR) * HOUR - 23 * HOUR).toISOString();
  const stats = useLoad(() => api.stats(webhook.id, { since, bucket: 'hour' }), [webhook.id, webhook.updated_at]);
  useInterval(stats.reload, 30_000);
  if (stats.error) return html`<span class="muted">${texts.none}</span>`;
  if (!stats.data) return html`<span class="muted">…</span>`;
  const bars = lastDay(stats.data.items);
  const [success, failed] = [sum(bars.map((bar) => bar.success)), sum(bars.map((bar) => bar.failed))];
  const ended = success + failed;
  if (ended === 0) return html`<span class="muted">${texts.webhooks.noDeliveries}</span>`;
  return html`<span class="last-day">
    <${Bars} bars=${bars} label=${texts.webhooks.sparkline(ended, failed)} />
    <span class="rate">${((success / ended) * 100).toFixed(ended === success ? 0 : 1)} %</span>
  </span>`;
}

/** @param {number[]} numbers */
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

/** @param {{ webhook: Webhook }} props */
function Row({ webhook }) {
  const { health } = webhook;
  return html`<tr>
    <th scope="row" data-label=${texts.webhooks.endpoint}>
      <${Link} to=${`/webhooks/${webhook.id}`}>${webhook.description || webhook.url}<//>
      ${webhook.description && html`<div class="muted url">${webhook.url}</div>`}
    </th>
    <td data-label=${texts.webhooks.state}><${State} webhook=${webhook} /></td>
    <td data-label=${texts.webhooks.events}>${webhook.event_types.slice(0, 3).join(', ')}${webhook.event_types.length > 3 ? ` +${webhook.event_types.length - 3}` : ''}</td>
    <td data-label=${texts.webhooks.lastDay}><${LastDay} webhook=${webhook} /></td>
    <td data-label=${texts.webhooks.lastFailure}>
      ${health.last_error ? html`<code>${health.last_error}</code> <span class="muted"><${Time} at=${health.failing_since} /></span>` : texts.none}
    </td>
  </tr>`;
}

export function WebhooksPage() {
  const { api } = useApp();
  const [pages, setPages] = useState(/** @type {Webhook[]} */ ([]));
  const [cursor, setCursor] = useState(/** @type {string | null} */ (null));
  const [moreError, setMoreError] = useState(/** @type {Error | null} */ (null));
  const first = useLoad(() => api.webhooks(), []);
  const paged = useRef(false);
  useInterval(() => void (paged.current || first.reload()), 5_000);
  useEffect(() => {
    if (first.data) {
      setPages(first.data.items);
      setCursor(first.data.next_cursor);
    }
  }, [first.data]);

  const more = async () => {
    paged.current = true;
    try {
      const page = await api.webhooks(cursor);
      setPages((before) => [...before, ...page.items]);
      setCursor(page.next_cursor);
      setMoreError(null);
    } catch (error) {
      setMoreError(/** @type {Error} */ (error));
    }
  };

  return html`<section>
    <div class="head">
      <h1>${texts.webhooks.title}</h1>
      <${Link} to="/create" class="button primary">${texts.webhooks.create}<//>
    </div>
    ${first.error && html`<${Failure} error=${first.error} retry=${first.reload} />`}
    ${!first.data && !first.error && html`<${Loading} />`}
    ${first.data && pages.length === 0 && html`<div class="empty">
      <h2>${texts.webhooks.emptyTitle}</h2>
      <p>${texts.webhooks.empty}</p>
    </div>`}
    ${pages.length > 0 && html`<table class="cards">
      <thead><tr>
        <th scope="col">${texts.webhooks.endpoint}</th>
        <th scope="col">${texts.webhooks.state}</th>
        <th scope="col">${texts.webhooks.events}</th>
        <th scope="col">${texts.webhooks.lastDay}</th>
        <th scope="col">${texts.webhooks.lastFailure}</th>
      </tr></thead>
      <tbody>${pages.map((webhook) => html`<${Row} key=${webhook.id} webhook=${webhook} />`)}</tbody>
    </table>`}
    <${Failure} error=${moreError} />
    ${cursor && html`<button type="button" onClick=${more}>${texts.more}</button>`}
  </section>`;
}
