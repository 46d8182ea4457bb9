/** One webhook: its health, its deliveries, recovery, and how to receive from it. */
import { html, useState } from '../vendor/preact-htm.js';
import { SecretDialog } from '../secret.js';
import { texts } from '../texts.js';
import { Copy, Dialog, Facts, Failure, Field, Link, Loading, State, Time, nameOf, shownTime, stateOf, useApp, useInterval, useLoad } from '../ui.js';
import { DeliveriesTab } from './deliveries.js';
import { Lazy } from '../lazy.js';
import { RecoverTab } from './recover.js';
import { TestDialog } from './test.js';

/** @import { ApiError } from '../api.js' */
/** @import { Webhook } from '../types.js' */

/** @param {{ id: string, tab?: string }} props */
export function WebhookPage({ id, tab = 'overview' }) {
  const { api } = useApp();
  const loaded = useLoad(() => api.webhook(id), [id]);
  useInterval(loaded.reload, 5_000);
  if (loaded.error && !loaded.data) return html`<${Failure} error=${loaded.error} retry=${loaded.reload} />`;
  if (!loaded.data) return html`<${Loading} />`;
  return html`<${Shown} key=${id} webhook=${loaded.data} tab=${tab} reload=${loaded.reload} />`;
}

/** @param {{ webhook: Webhook, tab: string, reload: () => void }} props */
function Shown({ webhook, tab, reload }) {
  const { api, notify, router, secrets } = useApp();
  const [dialog, setDialog] = useState(/** @type {'test' | 'rotate' | 'remove' | null} */ (null));
  const [rotated, setRotated] = useState(/** @type {Webhook | null} */ (null));
  const close = () => setDialog(null);

  const toggle = async () => {
    try {
      await api.update(webhook.id, { is_active: !webhook.is_active });
      notify(webhook.is_active ? texts.webhook.paused : texts.webhook.resumed);
      reload();
    } catch (error) {
      notify(/** @type {Error} */ (error).message, true);
    }
  };
  /** @param {Webhook} changed */
  const rotate = (changed) => {
    if (changed.secret) secrets.set(changed.id, changed.secret);
    close();
    setRotated(changed);
    reload();
  };

  const { kind, explained } = stateOf(webhook);
  const tabs = /** @type {[string, string][]} */ (Object.entries(texts.webhook.tabs));
  return html`<section>
    <p><${Link} to="/">← ${texts.webhooks.title}<//></p>
    <div class="head">
      <div>
        <h1>${nameOf(webhook)}</h1>
        ${webhook.description && html`<p class="muted url">${webhook.url}</p>`}
      </div>
      <${State} webhook=${webhook} />
    </div>
    ${kind !== 'good' && html`<p class=${`notice ${kind}`}>${explained}</p>`}
    <div class="buttons" role="group" aria-label=${texts.webhook.actions}>
      <button type="button" class="primary" onClick=${() => setDialog('test')}>${texts.webhook.test}</button>
      <${Link} to=${`/webhooks/${webhook.id}/edit`} class="button">${texts.webhook.edit}<//>
      <button type="button" onClick=${toggle}>${webhook.is_active ? texts.webhook.pause : texts.webhook.resume}</button>
      <button type="button" onClick=${() => setDialog('rotate')}>${texts.webhook.rotate}</button>
      <button type="button" class="danger" onClick=${() => setDialog('remove')}>${texts.webhook.remove}</button>
    </div>
    <nav class="tabs" aria-label=${nameOf(webhook)}>
      ${tabs.map(([name, label]) => html`<${Link} key=${name} to=${`/webhooks/${webhook.id}/${name}`} current=${name === tab}>${label}<//>`)}
    </nav>
    ${tab === 'overview' && html`<${Overview} webhook=${webhook} />`}
    ${tab === 'deliveries' && html`<${DeliveriesTab} webhook=${webhook} />`}
    ${tab === 'recover' && html`<${RecoverTab} webhook=${webhook} />`}
    ${tab === 'receive' && html`<${Lazy} load=${() => import('./receive.js')} webhook=${webhook} />`}
    ${dialog === 'test' && html`<${TestDialog} webhook=${webhook} onClose=${close} />`}
    ${dialog === 'rotate' && html`<${RotateDialog} webhook=${webhook} onClose=${close} onRotated=${rotate} />`}
    ${dialog === 'remove' && html`<${RemoveDialog} webhook=${webhook} onClose=${close} onRemoved=${() => router.go('/')} />`}
    ${rotated && html`<${SecretDialog} title=${texts.secret.rotated} webhook=${rotated} onClose=${() => setRotated(null)} />`}
  </section>`;
}

/** @param {{ webhook: Webhook }} props */
function Overview({ webhook }) {
  const { health, statistics } = webhook;
  const t = texts.webhook;
  /** @type {[string, any][]} */
  const healthRows = [
    [t.totals, stateOf(webhook).explained],
    [t.failingSince, html`<${Time} at=${health.failing_since} />`],
    [t.lastError, health.last_error ? html`<code>${health.last_error}</code>` : texts.none],
    [t.nextAttempt, html`<${Time} at=${health.open_until} />`],
  ];
  healthRows[0][0] = texts.webhooks.state;
  const schedule = webhook.retry_schedule;
  /** @type {[string, any][]} */
  const configuration = [
    ['URL', html`<span class="url">${webhook.url}</span>`],
    ['Id', html`<code>${webhook.id}</code> <${Copy} text=${webhook.id} />`],
    [texts.form.eventTypes, webhook.event_types.join(', ')],
    [texts.form.filter, webhook.filter ? html`<code>${JSON.stringify(webhook.filter)}</code>` : t.noFilter],
    [texts.form.retrySchedule, Array.isArray(schedule) ? `${schedule.join(', ')} s` : schedule],
    [texts.form.retryCount, webhook.retry_count ?? texts.none],
    [texts.form.timeout, webhook.timeout_seconds],
    [t.secrets, webhook.signing_secrets.map(({ expires_at }) => (expires_at ? t.secretUntil(shownTime(expires_at)) : t.currentSecret)).join(', ')],
    ...(webhook.public_key ? [/** @type {[string, any]} */ ([t.publicKey, html`<code>${webhook.public_key}</code> <${Copy} text=${webhook.public_key} />`])] : []),
    [t.created, html`<${Time} at=${webhook.created_at} />`],
    [t.updated, html`<${Time} at=${webhook.updated_at} />`],
  ];
  return html`<div>
    ${statistics && html`<ul class="figures">
      ${[
        [t.total, statistics.total_deliveries],
        [t.successful, statistics.successful_deliveries],
        [t.failed, statistics.failed_deliveries],
        [t.retrying, statistics.retrying_deliveries],
        [t.held, statistics.held_deliveries],
        [t.successRate, statistics.success_rate === null ? texts.none : `${statistics.success_rate.toFixed(1)} %`],
      ].map(([name, value]) => html`<li key=${name}><span class="value">${value}</span> <span class="muted">${name}</span></li>`)}
    </ul>`}
    ${statistics && statistics.failed_deliveries > 0 && html`<p><${Link} to=${`/webhooks/${webhook.id}/deliveries?status=failed`}>${t.viewFailed}<//></p>`}
    <h2>${t.health}</h2>
    <${Facts} rows=${healthRows} />
    <${Lazy} load=${() => import('./statistics.js')} webhook=${webhook} />
    <h2>${t.configuration}</h2>
    <${Facts} rows=${configuration} />
  </div>`;
}

/** @param {{ webhook: Webhook, onClose: () => void, onRotated: (webhook: Webhook) => void }} props */
function RotateDialog({ webhook, onClose, onRotated }) {
  const { api } = useApp();
  const [overlap, setOverlap] = useState(86_400);
  const [error, setError] = useState(/** @type {ApiError | null} */ (null));
  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    try {
      onRotated(await api.rotate(webhook.id, overlap));
    } catch (problem) {
      setError(/** @type {ApiError} */ (problem));
    }
  };
  return html`<${Dialog} title=${texts.rotate.title} onClose=${onClose}>
    <form onSubmit=${submit}>
      <p>${texts.rotate.explain}</p>
      <${Failure} error=${error} />
      <${Field} label=${texts.rotate.overlap}>
        ${(/** @type {any} */ attributes) => html`<select ...${attributes} onChange=${(/** @type {any} */ event) => setOverlap(Number(event.currentTarget.value))}>
          ${texts.rotate.overlaps.map(([seconds, label]) => html`<option key=${seconds} value=${seconds} selected=${seconds === overlap}>${label}</option>`)}
        </select>`}
      <//>
      <div class="buttons">
        <button type="submit" class="primary">${texts.rotate.submit}</button>
        <button type="button" onClick=${onClose}>${texts.cancel}</button>
      </div>
    </form>
  <//>`;
}

/** @param {{ webhook: Webhook, onClose: () => void, onRemoved: () => void }} props */
function RemoveDialog({ webhook, onClose, onRemoved }) {
  const { api, notify } = useApp();
  const [typed, setTyped] = useState('');
  const [error, setError] = useState(/** @type {ApiError | null} */ (null));
  const name = nameOf(webhook);
  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    try {
      await api.remove(webhook.id);
      notify(texts.webhook.deleted);
      onRemoved();
    } catch (problem) {
      setError(/** @type {ApiError} */ (problem));
    }
  };
  return html`<${Dialog} title=${texts.remove.title} onClose=${onClose}>
    <form onSubmit=${submit}>
      <p>${texts.remove.explain(webhook.url)}</p>
      <${Failure} error=${error} />
      <${Field} label=${texts.remove.type(name)}>
        ${(/** @type {any} */ attributes) => html`<input ...${attributes} autocomplete="off" value=${typed} onInput=${(/** @type {any} */ event) => setTyped(event.currentTarget.value)} />`}
      <//>
      <div class="buttons">
        <button type="submit" class="danger" disabled=${typed.trim() !== name.trim()}>${texts.remove.submit}</button>
        <button type="button" onClick=${onClose}>${texts.cancel}</button>
      </div>
    </form>
  <//>`;
}
