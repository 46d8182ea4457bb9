/**
 * The client of the API. Every failure is an `ApiError`: the problem details (RFC 9457) that the
 * API returned, or what kept a response from coming.
 */
import { texts } from './texts.js';

/** @import { Bucket, Delivery, EventType, FieldError, Page, Recovery, TestResult, Webhook } from './types.js' */

export class ApiError extends Error {
  /**
   * @param {number} status 0 when there is no response
   * @param {string} message
   * @param {FieldError[]} errors
   */
  constructor(status, message, errors = []) {
    super(message);
    this.status = status;
    this.errors = errors;
  }

  /** The message for a field of a form, if the API names the field. @param {string} field */
  of(field) {
    return this.errors.find((error) => error.field === field || error.field.startsWith(`${field}.`))
      ?.message;
  }
}

/** @param {Record<string, string | number | null | undefined | string[]>} values */
function query(values) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined && value !== null && value !== '') parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return text && `?${text}`;
}

export class Api {
  /**
   * @param {string} base The base URL, without a slash at the end
   * @param {() => string | null} token
   * @param {() => void} onUnauthorized Called when the API refuses the token
   */
  constructor(base, token, onUnauthorized) {
    this.base = base;
    this.token = token;
    this.onUnauthorized = onUnauthorized;
    /** @type {Promise<Page<EventType>> | null} */
    this.catalogue = null;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @returns {Promise<any>}
   */
  async call(method, path, body) {
    /** @type {Record<string, string>} */
    const headers = { accept: 'application/json', authorization: `Bearer ${this.token() ?? ''}` };
    if (body !== undefined) headers['content-type'] = 'application/json';
    let response, text;
    try {
      response = await fetch(this.base + path, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        cache: 'no-store',
        credentials: 'omit',
      });
      text = await response.text();
    } catch {
      throw new ApiError(0, texts.errors.network);
    }
    let json = null;
    try {
      json = text ? JSON.parse(text) : null;
    } catch {
      // The text is not JSON, for example that of a proxy. The status says enough.
    }
    if (response.ok) return json;
    if (response.status === 401) this.onUnauthorized();
    const message = json?.detail ?? json?.title ?? json?.message ?? texts.errors.status(response.status);
    throw new ApiError(response.status, message, json?.errors ?? []);
  }

  /** @returns {Promise<Page<EventType>>} */
  eventTypes() {
    this.catalogue ??= this.call('GET', '/api/webhooks/event-types?include=operational').catch((error) => {
      this.catalogue = null;
      throw error;
    });
    return this.catalogue;
  }

  /** @param {string | null} cursor @returns {Promise<Page<Webhook>>} */
  webhooks(cursor = null) {
    return this.call('GET', `/api/webhooks${query({ limit: 20, cursor })}`);
  }

  /** Every webhook: a user has at most as many as fit on a page. @returns {Promise<Page<Webhook>>} */
  allWebhooks() {
    return this.call('GET', `/api/webhooks${query({ limit: 100 })}`);
  }

  /** @param {string} id @returns {Promise<Webhook>} */
  webhook(id) {
    return this.call('GET', path(id));
  }

  /** @param {unknown} body @returns {Promise<Webhook>} */
  create(body) {
    return this.call('POST', '/api/webhooks', body);
  }

  /** @param {string} id @param {unknown} body @returns {Promise<Webhook>} */
  update(id, body) {
    return this.call('PATCH', path(id), body);
  }

  /** @param {string} id */
  remove(id) {
    return this.call('DELETE', path(id));
  }

  /** @param {string} id @param {number} overlap @returns {Promise<Webhook>} */
  rotate(id, overlap) {
    return this.call('POST', `${path(id)}/rotate-secret`, { overlap_seconds: overlap });
  }

  /** @param {string} id @param {unknown} body @returns {Promise<TestResult>} */
  test(id, body) {
    return this.call('POST', `${path(id)}/test`, body);
  }

  /**
   * @param {string} id
   * @param {Record<string, string | number | null | undefined>} filter
   * @returns {Promise<Page<Delivery>>}
   */
  deliveries(id, filter) {
    return this.call('GET', `${path(id)}/deliveries${query(filter)}`);
  }

  /**
   * Those of all webhooks.
   * @param {Record<string, string | number | null | undefined>} filter
   * @returns {Promise<Page<Delivery>>}
   */
  allDeliveries(filter) {
    return this.call('GET', `/api/deliveries${query(filter)}`);
  }

  /** @param {string} id @param {string} delivery @returns {Promise<Delivery>} */
  delivery(id, delivery) {
    return this.call('GET', `${path(id)}/deliveries/${encodeURIComponent(delivery)}`);
  }

  /** @param {string} id @param {string} delivery @returns {Promise<{ id?: string, delivery_id?: string }>} */
  redeliver(id, delivery) {
    return this.call('POST', `${path(id)}/deliveries/${encodeURIComponent(delivery)}/redeliver`);
  }

  /**
   * @param {string} id
   * @param {{ since?: string, until?: string, bucket: 'hour' | 'day' }} range
   * @returns {Promise<{ items: Bucket[] }>}
   */
  stats(id, range) {
    return this.call('GET', `${path(id)}/stats${query(range)}`);
  }

  /** @param {string} id @returns {Promise<{ items: Recovery[] }>} */
  recoveries(id) {
    return this.call('GET', `${path(id)}/recoveries`);
  }

  /** @param {string} id @param {string} recovery @returns {Promise<Recovery>} */
  recovery(id, recovery) {
    return this.call('GET', `${path(id)}/recoveries/${encodeURIComponent(recovery)}`);
  }

  /** @param {string} id @param {unknown} body @returns {Promise<any>} */
  recover(id, body) {
    return this.call('POST', `${path(id)}/recoveries`, body);
  }

  /** @param {string} id @param {string} recovery */
  cancel(id, recovery) {
    return this.call('DELETE', `${path(id)}/recoveries/${encodeURIComponent(recovery)}`);
  }
}

/** @param {string} id */
function path(id) {
  return `/api/webhooks/${encodeURIComponent(id)}`;
}
