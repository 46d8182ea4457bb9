/** Creating and editing a webhook. Each field is explained, and shows its error beside it. */
import { html, useEffect, useMemo, useRef, useState } from '../vendor/preact-htm.js';
import { ApiError } from '../api.js';
import { SecretDialog } from '../secret.js';
import { texts } from '../texts.js';
import { Failure, Field, Link, Loading, useApp, useId, useLoad } from '../ui.js';

/** @import { EventType, RetrySchedule, Webhook } from '../types.js' */

const form = texts.form;

/** @typedef {{ name: string, value: string, kept: boolean }} Header */

/** What the form has, as text where the user writes. */
const empty = {
  url: '',
  description: '',
  event_types: /** @type {string[]} */ ([]),
  schedule: /** @type {'exponential' | 'standard' | 'own'} */ ('exponential'),
  waits: '',
  retry_count: '3',
  timeout_seconds: '10',
  filter: '',
  headers: /** @type {Header[]} */ ([]),
  rate_limit: '',
  signature: 'hmac',
  while_inactive: 'drop',
  auto_recover: 'off',
  keep_payload: 'retention',
};

/** @typedef {typeof empty} Values */

/** @param {Webhook} webhook @returns {Values} */
function valuesOf(webhook) {
  const schedule = webhook.retry_schedule;
  return {
    url: webhook.url,
    description: webhook.description ?? '',
    event_types: webhook.event_types,
    schedule: Array.isArray(schedule) ? 'own' : schedule,
    waits: Array.isArray(schedule) ? schedule.join(', ') : '',
    retry_count: String(webhook.retry_count ?? 3),
    timeout_seconds: String(webhook.timeout_seconds),
    filter: webhook.filter ? JSON.stringify(webhook.filter, null, 2) : '',
    headers: Object.keys(webhook.headers ?? {}).map((name) => ({ name, value: '', kept: true })),
    rate_limit: webhook.rate_limit ? String(webhook.rate_limit) : '',
    signature: webhook.signature ?? 'hmac',
    while_inactive: webhook.while_inactive ?? 'drop',
    auto_recover: webhook.auto_recover ? 'on' : 'off',
    keep_payload: webhook.keep_payload ?? 'retention',
  };
}

/** A number where the text is one, else the text, so that the API names the field. @param {string} text */
const number = (text) => (text.trim() !== '' && Number.isFinite(Number(text)) ? Number(text) : text);

/**
 * What the API gets, and what cannot be sent because it is no value at all.
 * @param {Values} values
 * @returns {{ body: Record<string, any>, errors: Record<string, string> }}
 */
function bodyOf(values) {
  /** @type {Record<string, string>} */
  const errors = {};
  let filter = null;
  try {
    filter = values.filter.trim() ? JSON.parse(values.filter) : null;
  } catch {
    errors.filter = form.filterInvalid;
  }
  /** @type {RetrySchedule} */
  let schedule = values.schedule === 'own' ? [] : values.schedule;
  if (values.schedule === 'own') {
    const waits = values.waits.split(',').map((wait) => wait.trim()).filter(Boolean);
    if (waits.length === 0 || waits.some((wait) => !/^[0-9]+$/.test(wait))) errors.retry_schedule = form.waitsInvalid;
    schedule = waits.map(Number);
  }
  return {
    errors,
    body: {
      url: values.url.trim(),
      description: values.description === '' ? null : values.description,
      event_types: values.event_types,
      filter,
      retry_schedule: schedule,
      ...(values.schedule === 'exponential' && { retry_count: number(values.retry_count) }),
      timeout_seconds: number(values.timeout_seconds),
      headers: Object.fromEntries(
        values.headers.filter(({ name }) => name.trim()).map(({ name, value, kept }) => [name.trim(), kept && value === '' ? null : value]),
      ),
      rate_limit: values.rate_limit.trim() === '' ? null : number(values.rate_limit),
      signature: values.signature,
      while_inactive: values.while_inactive,
      auto_recover: values.auto_recover === 'on',
      keep_payload: values.keep_payload,
    },
  };
}

/** Only what differs, so that a change of one field is a change of that field. @param {Record<string, any>} body @param {Record<string, any>} before */
function changes(body, before) {
  return Object.fromEntries(Object.entries(body).filter(([name, value]) => JSON.stringify(value) !== JSON.stringify(before[name])));
}

/** The choice of event types: all, a category, or single types. @param {{ catalogue: EventType[], chosen: string[], onChange: (chosen: string[]) => void, error?: string }} props */
function EventTypes({ catalogue, chosen, onChange, error }) {
  const id = useId();
  // No wildcard selects these.
  const operational = catalogue.filter((type) => type.category === 'operational');
  const groups = useMemo(() => {
    /** @type {Map<string, EventType[]>} */
    const found = new Map();
    for (const type of catalogue.filter((type) => type.category !== 'operational')) {
      const group = type.name.split('.')[0];
      found.set(group, [...(found.get(group) ?? []), type]);
    }
    return [...found];
  }, [catalogue]);
  // Selectors that have no box of their own stay as they are.
  const known = new Set(['*', ...groups.map(([group]) => `${group}.*`), ...catalogue.map((type) => type.name)]);
  const others = chosen.filter((selector) => !known.has(selector));
  /** @param {string} selector @param {boolean} on */
  const toggle = (selector, on) => {
    let next = chosen.filter((one) => one !== selector);
    if (on) {
      // A wildcard takes the place of what it covers.
      if (selector === '*') next = next.filter((one) => !known.has(one) || operational.some((type) => type.name === one));
      if (selector.endsWith('.*') && selector !== '*') next = next.filter((one) => !one.startsWith(selector.slice(0, -1)));
      next = [...next, selector];
    }
    onChange(next);
  };
  /** @param {string} selector @param {string} label @param {boolean} covered @param {string} [description] */
  const box = (selector, label, covered, description) => html`<label class="check" title=${description}>
    <input type="checkbox" checked=${covered || chosen.includes(selector)} disabled=${covered}
      onChange=${(/** @type {any} */ event) => toggle(selector, event.currentTarget.checked)} />
    <span>${label}${description && html` <span class="muted">${description}</span>`}</span>
  </label>`;
  const all = chosen.includes('*');
  return html`<fieldset class=${error ? 'field invalid' : 'field'} aria-describedby=${error ? `${id}-error` : `${id}-help`}>
    <legend>${form.eventTypes}</legend>
    <p class="help" id=${`${id}-help`}>${form.eventTypesHelp}</p>
    ${error && html`<p class="error" id=${`${id}-error`}>${error}</p>`}
    ${box('*', form.allEvents, false)}
    <div class="event-types">
      ${groups.map(([group, types]) => {
        const whole = all || chosen.includes(`${group}.*`);
        return html`<div key=${group}>
          ${box(`${group}.*`, form.category(group), all)}
          <div class="indent">${types.map((type) => html`<div key=${type.name}>${box(type.name, type.name, whole, type.description)}</div>`)}</div>
        </div>`;
      })}
      ${operational.length > 0 && html`<div key="operational">
        <p class="help">${form.operationalHelp}</p>
        <div class="indent">${operational.map((type) => html`<div key=${type.name}>${box(type.name, type.name, false, type.description)}</div>`)}</div>
      </div>`}
    </div>
    ${others.length > 0 && html`<p class="help">${others.join(', ')}</p>`}
  </fieldset>`;
}

/** @param {{ headers: Header[], onChange: (headers: Header[]) => void, error?: string }} props */
function Headers({ headers, onChange, error }) {
  const id = useId();
  /** @param {number} at @param {Partial<Header>} change */
  const set = (at, change) => onChange(headers.map((header, index) => (index === at ? { ...header, ...change } : header)));
  return html`<fieldset class=${error ? 'field invalid' : 'field'} aria-describedby=${`${id}-help`}>
    <legend>${form.headers}</legend>
    <p class="help" id=${`${id}-help`}>${form.headersHelp}</p>
    ${error && html`<p class="error">${error}</p>`}
    ${headers.map((header, at) => html`<div class="header-row" key=${at}>
      <input aria-label=${form.headerName} placeholder=${form.headerName} value=${header.name} readonly=${header.kept}
        onInput=${(/** @type {any} */ event) => set(at, { name: event.currentTarget.value })} />
      <input aria-label=${`${form.headerValue} ${header.name}`} placeholder=${header.kept ? form.headerKept : form.headerValue} value=${header.value}
        autocomplete="off" onInput=${(/** @type {any} */ event) => set(at, { value: event.currentTarget.value })} />
      <button type="button" aria-label=${form.removeHeader(header.name)} onClick=${() => onChange(headers.filter((_, index) => index !== at))}>✕</button>
    </div>`)}
    <button type="button" onClick=${() => onChange([...headers, { name: '', value: '', kept: false }])}>${form.addHeader}</button>
  </fieldset>`;
}

/** The page for a new webhook, or for one that exists. @param {{ id?: string }} props */
export function FormPage({ id }) {
  const { api } = useApp();
  const loaded = useLoad(async () => {
    const [catalogue, webhook] = await Promise.all([api.eventTypes(), id ? api.webhook(id) : null]);
    return { catalogue: catalogue.items, webhook };
  }, [id]);
  if (loaded.error) return html`<${Failure} error=${loaded.error} retry=${loaded.reload} />`;
  if (!loaded.data) return html`<${Loading} />`;
  return html`<${Form} catalogue=${loaded.data.catalogue} webhook=${loaded.data.webhook} />`;
}

/** @param {{ catalogue: EventType[], webhook: Webhook | null }} props */
function Form({ catalogue, webhook }) {
  const { api, router, notify, secrets, development } = useApp();
  const before = useMemo(() => (webhook ? valuesOf(webhook) : empty), [webhook]);
  const [values, setValues] = useState(before);
  const [failure, setFailure] = useState(/** @type {ApiError | null} */ (null));
  const [own, setOwn] = useState(/** @type {Record<string, string>} */ ({}));
  const [busy, setBusy] = useState(false);
  const [made, setMade] = useState(/** @type {Webhook | null} */ (null));
  const element = useRef(/** @type {HTMLFormElement | null} */ (null));

  /** @param {string} field */
  const error = (field) => own[field] ?? failure?.of(field);
  /** @param {Partial<Values>} change */
  const set = (change) => setValues((current) => ({ ...current, ...change }));
  const advanced = ['filter', 'retry_schedule', 'retry_count', 'timeout_seconds', 'headers', 'rate_limit', 'while_inactive', 'auto_recover', 'signature', 'keep_payload'];
  const showAdvanced = advanced.some((field) => error(field));

  // The first field with an error gets the focus.
  useEffect(() => {
    const invalid = element.current?.querySelector('.invalid input, .invalid select, .invalid textarea');
    if ((failure || Object.keys(own).length) && invalid instanceof HTMLElement) invalid.focus();
  }, [failure, own]);

  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    const { body, errors } = bodyOf(values);
    setOwn(errors);
    setFailure(null);
    if (Object.keys(errors).length) return;
    setBusy(true);
    try {
      const changed = changes(body, bodyOf(before).body);
      if (webhook) {
        await api.update(webhook.id, changed);
        notify(texts.webhook.saved);
        router.go(`/webhooks/${webhook.id}`);
      } else {
        const created = await api.create({ url: body.url, event_types: body.event_types, ...changed });
        if (created.secret) secrets.set(created.id, created.secret);
        setMade(created);
      }
    } catch (problem) {
      setFailure(/** @type {ApiError} */ (problem));
    } finally {
      setBusy(false);
    }
  };

  /** @param {keyof Values} name */
  const bind = (name) => ({
    value: values[name],
    onInput: (/** @type {any} */ event) => set({ [name]: event.currentTarget.value }),
  });
  /** @param {string} field @param {keyof Values} name @param {string} label @param {string} help @param {Record<string, any>} more */
  const input = (field, name, label, help, more) => html`<${Field} label=${label} help=${help} error=${error(field)}>
    ${(/** @type {any} */ attributes) => html`<input ...${attributes} ...${bind(name)} ...${more} />`}
  <//>`;
  /** @param {string} field @param {keyof Values} name @param {string} label @param {string} help @param {[string, string][]} options */
  const select = (field, name, label, help, options) => html`<${Field} label=${label} help=${help} error=${error(field)}>
    ${(/** @type {any} */ attributes) => html`<select ...${attributes} ...${bind(name)}>
      ${options.map(([value, text]) => html`<option key=${value} value=${value} selected=${values[name] === value}>${text}</option>`)}
    </select>`}
  <//>`;

  const unnamed = failure && failure.errors.length === 0 ? failure : null;
  const back = webhook ? `/webhooks/${webhook.id}` : '/';
  return html`<section class="narrow">
    <p><${Link} to=${back}>← ${texts.back}<//></p>
    <h1>${webhook ? form.edit : form.create}</h1>
    <form ref=${element} onSubmit=${submit} novalidate>
      <${Failure} error=${unnamed} />
      ${(failure?.errors.length || Object.keys(own).length > 0) && html`<div class="notice bad" role="alert"><p>${form.invalid}</p></div>`}
      ${input('url', 'url', form.url, development ? form.urlHelpDevelopment : form.urlHelp, { type: 'url', inputmode: 'url', autocomplete: 'off', maxlength: 2048, placeholder: 'https://example.com/webhook' })}
      ${input('description', 'description', form.description, form.descriptionHelp, { maxlength: 1024, autocomplete: 'off' })}
      <${EventTypes} catalogue=${catalogue} chosen=${values.event_types} error=${error('event_types')} onChange=${(/** @type {string[]} */ event_types) => set({ event_types })} />
      <details open=${showAdvanced || undefined}>
        <summary>${form.advanced}</summary>
        ${select('retry_schedule', 'schedule', form.retrySchedule, form.retryScheduleHelp, [['exponential', form.scheduleExponential], ['standard', form.scheduleStandard], ['own', form.scheduleOwn]])}
        ${values.schedule === 'own' && input('retry_schedule', 'waits', form.waits, form.waitsHelp, { inputmode: 'numeric', placeholder: '5, 300, 1800' })}
        ${values.schedule === 'exponential' && input('retry_count', 'retry_count', form.retryCount, form.retryCountHelp, { type: 'number', min: 0, max: 10 })}
        ${input('timeout_seconds', 'timeout_seconds', form.timeout, form.timeoutHelp, { type: 'number', min: 1, max: 60 })}
        <${Field} label=${form.filter} help=${form.filterHelp} error=${error('filter')}>
          ${(/** @type {any} */ attributes) => html`<textarea ...${attributes} ...${bind('filter')} rows="4" spellcheck="false" class="mono"></textarea>`}
        <//>
        <${Headers} headers=${values.headers} error=${error('headers')} onChange=${(/** @type {Header[]} */ headers) => set({ headers })} />
        ${input('rate_limit', 'rate_limit', form.rateLimit, form.rateLimitHelp, { type: 'number', min: 1, max: 1000 })}
        ${select('while_inactive', 'while_inactive', form.whileInactive, form.whileInactiveHelp, [['drop', form.drop], ['hold', form.hold]])}
        ${select('auto_recover', 'auto_recover', form.autoRecover, form.autoRecoverHelp, [['off', form.autoRecoverOff], ['on', form.autoRecoverOn]])}
        ${select('signature', 'signature', form.signature, form.signatureHelp, [['hmac', form.hmac], ['ed25519', form.ed25519]])}
        ${select('keep_payload', 'keep_payload', form.keepPayload, form.keepPayloadHelp, [['retention', form.retention], ['until_success', form.untilSuccess]])}
      </details>
      <div class="buttons">
        <button type="submit" class="primary" disabled=${busy}>${webhook ? texts.save : form.submitCreate}</button>
        <${Link} to=${back} class="button">${texts.cancel}<//>
      </div>
    </form>
    ${made && html`<${SecretDialog} title=${texts.secret.created} webhook=${made} onClose=${() => router.go(`/webhooks/${made.id}`)} />`}
  </section>`;
}
