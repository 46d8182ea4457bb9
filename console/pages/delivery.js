/** One delivery: what was sent, every attempt, and what to do about a failure. */
import { html, useState } from '../vendor/preact-htm.js';
import { texts } from '../texts.js';
import { Code, Copy, Facts, Failure, Link, Loading, StatusBadge, Time, pairs, shownDuration, useApp, useInterval, useLoad } from '../ui.js';

/** @import { Attempt, Delivery, Webhook } from '../types.js' */

const t = texts.delivery;

/** A text as one word of a POSIX shell. @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * The request as a command. The body is JSON with ASCII characters only, which the API returns as it
 * was sent, but for numbers that JavaScript writes in another way.
 * @param {Webhook} webhook @param {Delivery} delivery @param {string} body
 */
export function curl(webhook, delivery, body) {
  const sent = (delivery.attempts ?? []).flatMap((attempt) => pairs(attempt.request_headers ?? {}));
  const id = sent.find(([name]) => name.toLowerCase() === 'webhook-id')?.[1] ?? delivery.redelivery_of ?? delivery.id;
  return [
    `BODY=${quoted(body)}`,
    'TIMESTAMP=$(date +%s)',
    `SIGNATURE=$(printf '%s' ${quoted(id)}".$TIMESTAMP.$BODY" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$(printf '%s' "\${WEBHOOK_SECRET#whsec_}" | base64 -d | od -An -vtx1 | tr -d ' \\n')" -binary | base64)`,
    `curl -X POST ${quoted(webhook.url)} \\`,
    "  -H 'content-type: application/json' \\",
    `  -H 'webhook-id: ${id}' \\`,
    '  -H "webhook-timestamp: $TIMESTAMP" \\',
    '  -H "webhook-signature: v1,$SIGNATURE" \\',
    `  -H 'x-webhook-event: ${delivery.event_type}' \\`,
    '  -H "x-webhook-signature: sha256=$(printf \'%s\' "$BODY" | openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" | sed \'s/.* //\')" \\',
    '  --data-binary "$BODY"',
  ].join('\n');
}

/** JSON with every character outside of ASCII as an escape, as it is sent. @param {unknown} value */
export function asSent(value) {
  return JSON.stringify(value).replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** @param {{ id: string, delivery: string }} props */
export function DeliveryPage({ id, delivery: name }) {
  const { api, router } = useApp();
  const webhook = useLoad(() => api.webhook(id), [id]);
  const loaded = useLoad(() => api.delivery(id, name), [id, name]);
  // A redelivery has no record before its first attempt.
  const isAwaited = router.path.endsWith('?new') && loaded.error?.status === 404;
  const waits = isAwaited || loaded.data?.status === 'retrying';
  useInterval(loaded.reload, waits ? 1_000 : null);
  const error = (isAwaited ? null : loaded.error) ?? webhook.error;
  if (error) return html`<${Failure} error=${error} retry=${loaded.reload} />`;
  if (!loaded.data || !webhook.data) return html`<${Loading} />`;
  return html`<${Shown} webhook=${webhook.data} delivery=${loaded.data} />`;
}

/** @param {{ webhook: Webhook, delivery: Delivery }} props */
function Shown({ webhook, delivery }) {
  const { api, notify, router } = useApp();
  const [raw, setRaw] = useState(false);
  const payload = delivery.payload;
  const body = payload === undefined || payload === null ? null : asSent(payload);
  const redeliver = async () => {
    try {
      const made = await api.redeliver(webhook.id, delivery.id);
      notify(t.redelivered);
      router.go(`/webhooks/${webhook.id}/deliveries/${made.id ?? made.delivery_id}?new`);
    } catch (error) {
      notify(/** @type {Error} */ (error).message, true);
    }
  };
  const attempts = [...(delivery.attempts ?? [])].reverse();
  const advice = delivery.status === 'success' ? null : attempts[0]?.advice;
  return html`<section>
    <p><${Link} to=${`/webhooks/${webhook.id}/deliveries`}>← ${texts.deliveries.title}<//></p>
    <div class="head"><h1>${delivery.event_type}</h1><${StatusBadge} status=${delivery.status} /></div>
    ${delivery.error && html`<div class="notice bad">
      <p><code>${delivery.error}</code></p>
      ${advice && html`<p><strong>${t.advice}:</strong> ${advice}</p>`}
    </div>`}
    <div class="buttons">
      <button type="button" class="primary" onClick=${redeliver} disabled=${delivery.status === 'retrying' || delivery.status === 'held'}>${t.redeliver}</button>
      ${body && html`<${Copy} text=${curl(webhook, delivery, body)} label=${t.curl} />`}
    </div>
    <p class="help">${t.curlHint}</p>
    <${Facts} rows=${[
      [t.id, html`<code>${delivery.id}</code> <${Copy} text=${delivery.id} />`],
      [t.eventId, html`<code>${delivery.event_id}</code>`],
      [t.trigger, texts.deliveries.triggers[delivery.trigger] ?? delivery.trigger],
      [t.created, html`<${Time} at=${delivery.created_at} />`],
      ...(delivery.next_retry_at ? [[t.nextRetry, html`<${Time} at=${delivery.next_retry_at} /> ${delivery.waiting_for && `(${t.waitingFor[delivery.waiting_for] ?? delivery.waiting_for})`}`]] : []),
      ...(delivery.redelivery_of ? [[t.redeliveryOf, html`<${Link} to=${`/webhooks/${webhook.id}/deliveries/${delivery.redelivery_of}`}>${delivery.redelivery_of}<//>`]] : []),
    ]} />
    <h2>${t.payload}</h2>
    ${body === null && html`<p class="muted">${t.payloadGone}</p>`}
    ${body !== null && html`<div>
      <div class="buttons" role="group" aria-label=${t.payload}>
        <button type="button" aria-pressed=${!raw} onClick=${() => setRaw(false)}>${t.formatted}</button>
        <button type="button" aria-pressed=${raw} onClick=${() => setRaw(true)}>${t.raw}</button>
      </div>
      <${Code} text=${raw ? body : JSON.stringify(payload, null, 2)} label=${t.payload} />
    </div>`}
    <h2>${t.attempts}</h2>
    ${attempts.length === 0 && html`<p class="muted">${t.noAttempts}</p>`}
    ${attempts.map((attempt, index) => html`<${AttemptShown} key=${attempt.number} attempt=${attempt} open=${index === 0} />`)}
  </section>`;
}

/** @param {{ attempt: Attempt, open: boolean }} props */
function AttemptShown({ attempt, open }) {
  const good = attempt.response_status !== null && attempt.response_status >= 200 && attempt.response_status < 300 && !attempt.error;
  /** @param {string} title @param {Attempt['request_headers']} headers */
  const shown = (title, headers) => headers && pairs(headers).length > 0 && html`<h3>${title}</h3>
    <${Code} text=${pairs(headers).map(([name, value]) => `${name}: ${value}`).join('\n')} label=${title} />`;
  return html`<details class="attempt" open=${open}>
    <summary>
      ${t.attempt(attempt.number)} <span class=${good ? 'badge good' : 'badge bad'}>${attempt.response_status ?? attempt.failure ?? t.noResponse}</span>
      <span class="muted"><${Time} at=${attempt.started_at} />, ${shownDuration(attempt.duration_ms)}</span>
    </summary>
    ${attempt.error && html`<p><code>${attempt.error}</code></p>`}
    ${attempt.advice && html`<p><strong>${t.advice}:</strong> ${attempt.advice}</p>`}
    ${shown(t.requestHeaders, attempt.request_headers)}
    ${shown(t.responseHeaders, attempt.response_headers)}
    ${attempt.response_excerpt && html`<h3>${t.excerpt}</h3><${Code} text=${attempt.response_excerpt} label=${t.excerpt} />`}
  </details>`;
}
