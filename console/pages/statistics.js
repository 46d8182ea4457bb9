/** Success and latency over time. */
import { html, useState } from '../vendor/preact-htm.js';
import { Bars, Lines } from '../charts.js';
import { texts } from '../texts.js';
import { Failure, Field, Loading, shownTime, useApp, useInterval, useLoad } from '../ui.js';

/** @import { Bucket, Webhook } from '../types.js' */

const t = texts.statistics;
const HOUR = 3_600_000;
/** @type {Record<string, { count: number, bucket: 'hour' | 'day' }>} */
const RANGES = { day: { count: 24, bucket: 'hour' }, week: { count: 7, bucket: 'day' }, month: { count: 30, bucket: 'day' } };

/** Every bucket of the range, also those without deliveries. @param {Bucket[]} items @param {number} start @param {number} step @param {number} count */
function filled(items, start, step, count) {
  const known = new Map(items.map((bucket) => [Date.parse(bucket.start), bucket]));
  return Array.from({ length: count }, (_, index) => {
    const at = start + index * step;
    const none = { p50: null, p90: null, p99: null };
    return known.get(at) ?? { start: new Date(at).toISOString(), total: 0, success: 0, failed: 0, attempts: 0, latency_ms: none };
  });
}

/** @param {{ webhook: Webhook }} props */
export default function Statistics({ webhook }) {
  const { api } = useApp();
  const [range, setRange] = useState('day');
  const { count, bucket } = RANGES[range];
  const step = bucket === 'hour' ? HOUR : 24 * HOUR;
  const start = Math.floor(Date.now() / step) * step - (count - 1) * step;
  const loaded = useLoad(() => api.stats(webhook.id, { since: new Date(start).toISOString(), bucket }), [webhook.id, range, start]);
  useInterval(loaded.reload, 10_000);
  const buckets = loaded.data ? filled(loaded.data.items, start, step, count) : [];
  const any = buckets.some((one) => one.total + one.attempts > 0);
  return html`<section aria-label=${t.title}>
    <div class="head">
      <h2>${t.title}</h2>
      <${Field} label=${t.range}>
        ${(/** @type {any} */ attributes) => html`<select ...${attributes} onChange=${(/** @type {any} */ event) => setRange(event.currentTarget.value)}>
          ${Object.entries(t.ranges).map(([value, label]) => html`<option key=${value} value=${value} selected=${value === range}>${label}</option>`)}
        </select>`}
      <//>
    </div>
    <${Failure} error=${loaded.error} retry=${loaded.reload} />
    ${!loaded.data && !loaded.error && html`<${Loading} />`}
    ${loaded.data && !any && html`<p class="muted">${t.none}</p>`}
    ${any && html`<div class="charts">
      <figure>
        <figcaption>${t.deliveries} <span class="legend success">${t.success}</span> <span class="legend failed">${t.failed}</span></figcaption>
        <${Bars} class="chart" label=${t.deliveries} bars=${buckets.map((one) => ({ success: one.success, failed: one.failed, title: `${shownTime(one.start)}: ${one.success} ${t.success}, ${one.failed} ${t.failed}` }))} />
      </figure>
      <figure>
        <figcaption>${t.latency} <span class="legend line-0">${t.p50}</span> <span class="legend line-1">${t.p90}</span> <span class="legend line-2">${t.p99}</span></figcaption>
        <${Lines} label=${t.latency} lines=${/** @type {const} */ (['p50', 'p90', 'p99']).map((name) => ({ name: t[name], values: buckets.map((one) => one.latency_ms[name]) }))} />
      </figure>
    </div>
    <details>
      <summary>${t.table}</summary>
      <div class="scroll" tabindex="0" role="region" aria-label=${t.table}>
      <table>
        <thead><tr>${[t.start, t.deliveries, t.success, t.failed, t.attempts, `${t.p50} (ms)`, `${t.p90} (ms)`, `${t.p99} (ms)`].map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
        <tbody>${buckets.filter((one) => one.total + one.attempts > 0).map((one) => html`<tr key=${one.start}>
          <th scope="row">${shownTime(one.start)}</th><td>${one.total}</td><td>${one.success}</td><td>${one.failed}</td><td>${one.attempts}</td>
          <td>${one.latency_ms.p50 ?? texts.none}</td><td>${one.latency_ms.p90 ?? texts.none}</td><td>${one.latency_ms.p99 ?? texts.none}</td>
        </tr>`)}</tbody>
      </table>
      </div>
    </details>`}
  </section>`;
}
