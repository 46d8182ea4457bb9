/** Components and hooks that the pages share. */
import { createContext, html, useCallback, useContext, useEffect, useLayoutEffect, useRef, useState } from './vendor/preact-htm.js';
import { texts } from './texts.js';

/** @import { Api, ApiError } from './api.js' */
/** @import { Router } from './router.js' */
/** @import { Delivery, Webhook } from './types.js' */

/**
 * What every component can use.
 * @typedef {object} App
 * @property {Api} api
 * @property {Router} router
 * @property {boolean} development Whether http URLs are allowed
 * @property {Map<string, string>} secrets Secrets made in this session, by webhook
 * @property {(message: string, error?: boolean) => void} notify
 */

const AppContext = createContext(/** @type {App} */ (/** @type {unknown} */ (null)));
export const AppProvider = AppContext.Provider;
export const useApp = () => useContext(AppContext);

let ids = 0;

/** An id that no other element has. */
export const useId = () => useState(() => `id-${++ids}`)[0];

/**
 * Loads once and when `dependencies` change. An old result never replaces a newer one.
 * @template T
 * @param {() => Promise<T>} load
 * @param {unknown[]} dependencies
 */
export function useLoad(load, dependencies) {
  const [state, setState] = useState(
    /** @type {{ data: T | null, error: ApiError | null, loading: boolean }} */ ({ data: null, error: null, loading: true }),
  );
  const newest = useRef(0);
  const run = useCallback(async () => {
    const number = ++newest.current;
    setState((before) => ({ ...before, loading: true }));
    try {
      const data = await load();
      if (number === newest.current) setState({ data, error: null, loading: false });
    } catch (error) {
      if (number === newest.current) setState((before) => ({ ...before, error: /** @type {ApiError} */ (error), loading: false }));
    }
  }, dependencies);
  useEffect(() => {
    run();
    return () => void newest.current++;
  }, [run]);
  /** @param {T} data */
  const set = (data) => {
    newest.current++;
    setState({ data, error: null, loading: false });
  };
  return { ...state, reload: run, set };
}

/**
 * Calls `tick` every few seconds while the page is visible.
 * @param {() => void} tick
 * @param {number | null} milliseconds Null to stop
 */
export function useInterval(tick, milliseconds) {
  const latest = useRef(tick);
  latest.current = tick;
  useEffect(() => {
    if (milliseconds === null) return undefined;
    const timer = setInterval(() => {
      if (!document.hidden) latest.current();
    }, milliseconds);
    return () => clearInterval(timer);
  }, [milliseconds]);
}

/** A link to a path of the console. @param {{ to: string, class?: string, children?: any, label?: string, current?: boolean }} props */
export function Link({ to, class: kind, children, label, current }) {
  const { router } = useApp();
  /** @param {MouseEvent} event */
  const follow = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    event.preventDefault();
    router.go(to);
  };
  return html`<a href=${router.href(to)} class=${kind} aria-label=${label} aria-current=${current ? 'page' : undefined} onClick=${follow}>${children}</a>`;
}

/** @param {{ error: Error | null, retry?: () => void }} props */
export function Failure({ error, retry }) {
  if (!error) return null;
  return html`<div class="notice bad" role="alert">
    <p>${error.message}</p>
    ${retry && html`<button type="button" onClick=${retry}>${texts.retry}</button>`}
  </div>`;
}

export const Loading = () => html`<p class="muted" role="status">${texts.loading}</p>`;

/**
 * A labelled input with its explanation and its error.
 * @param {{ label: string, help?: any, error?: string | null, children: (attributes: Record<string, any>) => any }} props
 */
export function Field({ label, help, error, children }) {
  const id = useId();
  const described = [help && `${id}-help`, error && `${id}-error`].filter(Boolean).join(' ');
  return html`<div class=${error ? 'field invalid' : 'field'}>
    <label for=${id}>${label}</label>
    ${children({ id, 'aria-describedby': described || undefined, 'aria-invalid': error ? 'true' : undefined })}
    ${help && html`<p class="help" id=${`${id}-help`}>${help}</p>`}
    ${error && html`<p class="error" id=${`${id}-error`}>${error}</p>`}
  </div>`;
}

/**
 * A modal dialog. The browser keeps the focus inside of it and returns it when it closes.
 * @param {{ title: string, onClose: () => void, children?: any, dismissable?: boolean }} props
 */
export function Dialog({ title, onClose, children, dismissable = true }) {
  const element = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const id = useId();
  useLayoutEffect(() => {
    const dialog = element.current;
    dialog?.showModal();
    return () => dialog?.close();
  }, []);
  /** @param {Event} event */
  const cancel = (event) => {
    event.preventDefault();
    if (dismissable) onClose();
  };
  return html`<dialog ref=${element} aria-labelledby=${id} onCancel=${cancel}>
    <header>
      <h2 id=${id}>${title}</h2>
      ${dismissable && html`<button type="button" class="quiet" aria-label=${texts.close} onClick=${onClose}>✕</button>`}
    </header>
    ${children}
  </dialog>`;
}

/** @param {string} text */
async function copyText(text) {
  await navigator.clipboard.writeText(text);
}

/** @param {{ text: string, label?: string }} props */
export function Copy({ text, label = texts.copy }) {
  const [copied, setCopied] = useState(false);
  const { notify } = useApp();
  const copy = async () => {
    try {
      await copyText(text);
      setCopied(true);
      setTimeout(() => setCopied(false), 2000);
    } catch {
      notify(texts.copyFailed, true);
    }
  };
  return html`<button type="button" class="copy" onClick=${copy}><span aria-live="polite">${copied ? texts.copied : label}</span></button>`;
}

/** Code that can be scrolled by keyboard, and copied. @param {{ text: string, label: string }} props */
export function Code({ text, label }) {
  return html`<div class="code">
    <${Copy} text=${text} />
    <pre tabindex="0" role="region" aria-label=${label}><code>${text}</code></pre>
  </div>`;
}

/** @param {{ at: string | null | undefined }} props */
export function Time({ at }) {
  if (!at) return html`<span>${texts.none}</span>`;
  return html`<time datetime=${at} title=${at}>${shownTime(at)}</time>`;
}

/** @param {string} at */
export function shownTime(at) {
  return new Date(at).toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'medium' });
}

/** @param {number | null | undefined} milliseconds */
export function shownDuration(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return texts.none;
  return milliseconds < 1000 ? `${milliseconds} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

/** @param {{ kind: 'good' | 'bad' | 'warn' | 'plain', children?: any }} props */
export const Badge = ({ kind, children }) => html`<span class=${`badge ${kind}`}>${children}</span>`;

/** What state a webhook is in, and why. @param {Webhook} webhook */
export function stateOf(webhook) {
  const { health, is_active, disabled_reason } = webhook;
  const { state, stateExplained } = texts;
  if (disabled_reason) {
    const explained = /** @type {Record<string, any>} */ (stateExplained)[disabled_reason];
    return { kind: /** @type {const} */ ('bad'), name: state.disabled, explained: explained ?? disabled_reason };
  }
  if (!is_active) return { kind: /** @type {const} */ ('plain'), name: state.paused, explained: stateExplained.paused };
  if (health.breaker === 'open') return { kind: /** @type {const} */ ('bad'), name: state.open, explained: stateExplained.open };
  if (health.breaker === 'half_open') return { kind: /** @type {const} */ ('warn'), name: state.half_open, explained: stateExplained.half_open };
  if (health.consecutive_failures > 0) {
    return { kind: /** @type {const} */ ('warn'), name: state.failing, explained: stateExplained.failing(health.consecutive_failures) };
  }
  return { kind: /** @type {const} */ ('good'), name: state.active, explained: stateExplained.active };
}

/** @param {{ webhook: Webhook }} props */
export function State({ webhook }) {
  const { kind, name, explained } = stateOf(webhook);
  return html`<span title=${explained}><${Badge} kind=${kind}>${name}<//></span>`;
}

/** @param {{ status: Delivery['status'] }} props */
export function StatusBadge({ status }) {
  const kind = { success: 'good', failed: 'bad', retrying: 'warn', held: 'warn' }[status] ?? 'plain';
  return html`<${Badge} kind=${kind}>${texts.deliveries.statuses[status] ?? status}<//>`;
}

/** The name of a webhook for its owner. @param {Webhook} webhook */
export const nameOf = (webhook) => webhook.description || webhook.url;

/** A list of names and values. @param {{ rows: [string, any][] }} props */
export function Facts({ rows }) {
  return html`<dl class="facts">${rows.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

/** Headers as the API shows them: an object or a list of pairs. @param {Record<string, string> | [string, string][]} headers @returns {[string, string][]} */
export const pairs = (headers) => (Array.isArray(headers) ? headers : Object.entries(headers));

/** What `<input type="datetime-local">` has, as a time of the API. @param {string} local */
export const utc = (local) => (local ? new Date(local).toISOString() : undefined);

/** A time as `<input type="datetime-local">` has it. @param {Date} date */
export function localInput(date) {
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}
