/** Sending a test with data that the user chooses. */
import { html, useEffect, useState } from '../vendor/preact-htm.js';
import { texts } from '../texts.js';
import { Dialog, Facts, Failure, Field, Link, shownDuration, useApp, useLoad } from '../ui.js';

/** @import { ApiError } from '../api.js' */
/** @import { EventType, TestResult, Webhook } from '../types.js' */

const t = texts.test;

/** @param {EventType | undefined} type */
const exampleOf = (type) => JSON.stringify(type?.example ?? {}, null, 2);

/** @param {string[]} selectors @param {string} name */
const selects = (selectors, name) => selectors.some((one) => one === '*' || one === name || (one.endsWith('.*') && name.startsWith(one.slice(0, -1))));

/** @param {{ webhook: Webhook, onClose: () => void }} props */
export function TestDialog({ webhook, onClose }) {
  const { api } = useApp();
  const catalogue = useLoad(() => api.eventTypes(), []);
  const types = catalogue.data?.items ?? [];
  const [name, setName] = useState('');
  const [data, setData] = useState('{}');
  const [invalid, setInvalid] = useState(/** @type {string | null} */ (null));
  const [error, setError] = useState(/** @type {ApiError | null} */ (null));
  const [result, setResult] = useState(/** @type {TestResult | null} */ (null));
  const [busy, setBusy] = useState(false);
  /** @param {string} chosen */
  const choose = (chosen) => {
    setName(chosen);
    setData(exampleOf(types.find((type) => type.name === chosen)));
    setResult(null);
  };
  useEffect(() => {
    const wanted = types.find((type) => selects(webhook.event_types, type.name)) ?? types[0];
    if (wanted) choose(wanted.name);
  }, [catalogue.data]);

  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    let value;
    try {
      value = JSON.parse(data);
    } catch {
      value = null;
    }
    const bad = value === null || typeof value !== 'object' || Array.isArray(value);
    setInvalid(bad ? t.dataInvalid : null);
    if (bad) return;
    setBusy(true);
    setError(null);
    setResult(null);
    try {
      setResult(await api.test(webhook.id, { event_type: name, data: value }));
    } catch (problem) {
      setError(/** @type {ApiError} */ (problem));
    } finally {
      setBusy(false);
    }
  };

  const unnamed = error && !error.of('event_type') && !error.of('data') ? error : null;
  return html`<${Dialog} title=${t.title} onClose=${onClose}>
    <form onSubmit=${submit}>
      <p>${t.explain}</p>
      <${Failure} error=${catalogue.error ?? unnamed} />
      <${Field} label=${t.eventType} error=${error?.of('event_type')}>
        ${(/** @type {any} */ attributes) => html`<select ...${attributes} onChange=${(/** @type {any} */ event) => choose(event.currentTarget.value)}>
          ${types.map((type) => html`<option key=${type.name} value=${type.name} selected=${type.name === name}>${type.name}</option>`)}
        </select>`}
      <//>
      <${Field} label=${t.data} help=${t.dataHelp} error=${invalid ?? error?.of('data')}>
        ${(/** @type {any} */ attributes) => html`<textarea ...${attributes} rows="8" class="mono" spellcheck="false" value=${data} onInput=${(/** @type {any} */ event) => setData(event.currentTarget.value)}></textarea>`}
      <//>
      <div class="buttons">
        <button type="submit" class="primary" disabled=${busy || !name}>${busy ? t.sending : t.submit}</button>
        <button type="button" onClick=${onClose}>${texts.close}</button>
      </div>
      <div aria-live="polite">
        ${result && html`<div class=${result.success ? 'notice good' : 'notice bad'}>
          <p><strong>${result.success ? t.success : t.failure}</strong></p>
          <${Facts} rows=${[
            [t.status, result.status_code ?? texts.none],
            [t.duration, shownDuration(result.duration_ms)],
            ...(result.error ? [[t.error, html`<code>${result.error}</code>`]] : []),
          ]} />
          <p>${result.matched ? t.matched : t.notMatched}</p>
          <p><${Link} to=${`/webhooks/${webhook.id}/deliveries/${result.delivery_id}`}>${t.view}<//></p>
        </div>`}
      </div>
    </form>
  <//>`;
}
