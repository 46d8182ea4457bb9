/** Sending again what failed, or succeeded, in a time range. */
import { html, useState } from '../vendor/preact-htm.js';
import { texts } from '../texts.js';
import { Failure, Field, Loading, localInput, useApp, useInterval, useLoad, utc } from '../ui.js';

/** @import { ApiError } from '../api.js' */
/** @import { Recovery, Webhook } from '../types.js' */

const t = texts.recover;
const DAY = 86_400_000;
/** The number of the newest recoveries that are shown with their outcomes: the API counts these for each. */
const DETAILED = 3;

/** @param {Recovery} job */
const isSettled = (job) => job.status !== 'running' && (job.succeeded ?? 0) + (job.failed ?? 0) >= job.sent;

/** @param {Recovery} job */
function progress(job) {
  if (job.status === 'running') return t.sending(job.sent);
  if (job.succeeded === undefined || job.failed === undefined) return t.sent(job.sent);
  return t.progress(job, job.succeeded, job.failed);
}

/** @param {{ webhook: Webhook }} props */
export function RecoverTab({ webhook }) {
  const { api, notify } = useApp();
  const [since, setSince] = useState(() => localInput(new Date(Date.parse(webhook.health.failing_since ?? '') || Date.now() - DAY)));
  const [until, setUntil] = useState('');
  const [status, setStatus] = useState('failed');
  const [matched, setMatched] = useState(/** @type {number | null} */ (null));
  const [error, setError] = useState(/** @type {ApiError | null} */ (null));
  const [busy, setBusy] = useState(false);
  const jobs = useLoad(async () => {
    const { items } = await api.recoveries(webhook.id);
    const detailed = await Promise.all(items.slice(0, DETAILED).map((job) => api.recovery(webhook.id, job.id)));
    return { items: [...detailed, ...items.slice(DETAILED)] };
  }, [webhook.id]);
  const newest = jobs.data?.items.slice(0, DETAILED) ?? [];
  const running = jobs.data?.items.some((job) => job.status === 'running');
  useInterval(jobs.reload, running ? 1_000 : newest.every(isSettled) ? null : 5_000);

  /** @param {boolean} dry */
  const send = async (dry) => {
    setError(null);
    setBusy(true);
    try {
      const asked = await api.recover(webhook.id, { since: utc(since), ...(until && { until: utc(until) }), status, ...(dry && { dry_run: true }) });
      if (dry) {
        setMatched(asked.matched);
      } else {
        setMatched(null);
        notify(t.started);
        jobs.reload();
      }
    } catch (problem) {
      setError(/** @type {ApiError} */ (problem));
    } finally {
      setBusy(false);
    }
  };
  /** @param {Recovery} job */
  const cancel = async (job) => {
    try {
      await api.cancel(webhook.id, job.id);
      jobs.reload();
    } catch (problem) {
      notify(/** @type {Error} */ (problem).message, true);
    }
  };
  /** @param {string} field @param {string} label @param {string} value @param {(text: string) => void} set */
  const moment = (field, label, value, set) => html`<${Field} label=${label} error=${error?.of(field)}>
    ${(/** @type {any} */ attributes) => html`<input type="datetime-local" ...${attributes} value=${value}
      onChange=${(/** @type {any} */ event) => { set(event.currentTarget.value); setMatched(null); }} />`}
  <//>`;
  return html`<div>
    <p>${t.explain}</p>
    <form onSubmit=${(/** @type {Event} */ event) => { event.preventDefault(); send(false); }}>
      ${error && error.errors.length === 0 && html`<${Failure} error=${error} />`}
      <div class="filters">
        ${moment('since', t.since, since, setSince)} ${moment('until', t.until, until, setUntil)}
        <${Field} label=${t.status} error=${error?.of('status')}>
          ${(/** @type {any} */ attributes) => html`<select ...${attributes} onChange=${(/** @type {any} */ event) => { setStatus(event.currentTarget.value); setMatched(null); }}>
            <option value="failed" selected=${status === 'failed'}>${t.failed}</option>
            <option value="success" selected=${status === 'success'}>${t.success}</option>
            <option value="held" selected=${status === 'held'}>${t.held}</option>
          </select>`}
        <//>
      </div>
      <p role="status">${matched !== null && t.matched(matched)}</p>
      <div class="buttons">
        <button type="button" disabled=${busy || !since} onClick=${() => send(true)}>${t.count}</button>
        <button type="submit" class="primary" disabled=${busy || !since}>${t.submit}</button>
      </div>
    </form>
    <h2>${t.jobs}</h2>
    <${Failure} error=${jobs.error} retry=${jobs.reload} />
    ${!jobs.data && !jobs.error && html`<${Loading} />`}
    ${jobs.data?.items.length === 0 && html`<p class="muted">${t.noJobs}</p>`}
    ${jobs.data?.items.map((job) => html`<div class="job" key=${job.id}>
      <p><strong>${t.statuses[job.status] ?? job.status}</strong> <code>${job.id}</code></p>
      ${job.automatic && html`<p class="muted">${t.automatic}</p>`}
      ${job.status === 'running' && html`<progress aria-label=${progress(job)}></progress>`}
      <p>${progress(job)}</p>
      ${job.status === 'running' && html`<button type="button" onClick=${() => cancel(job)}>${t.cancel}</button>`}
    </div>`)}
  </div>`;
}
