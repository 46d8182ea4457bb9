/**
 * Why a signature does not match. Everything is computed in the browser, with WebCrypto.
 *
 * A signature that does not match is compared with those of frequent mistakes: another key, a body
 * that was parsed and written again, white space, a header without its prefix.
 */
import { texts } from './texts.js';

const reasons = texts.signature.reasons;
const TOLERANCE_SECONDS = 300;
const encoder = new TextEncoder();

/**
 * @typedef {{ scheme: keyof typeof texts.signature.schemes, valid: boolean, reason: string | null }} Result
 */

/** @param {string} text @returns {Map<string, string>} */
export function parseHeaders(text) {
  const headers = new Map();
  for (const line of text.split(/\r?\n/)) {
    const match = /^[\s>*<-]*([A-Za-z0-9-]+)\s*:\s*(.*?)\s*$/.exec(line);
    if (match) headers.set(match[1].toLowerCase(), match[2]);
  }
  return headers;
}

/** @param {string} text @returns {Uint8Array<ArrayBuffer> | null} */
function fromBase64(text) {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}

/** @param {ArrayBuffer} bytes */
const toBase64 = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));

/** @param {ArrayBuffer} bytes */
const toHex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, '0')).join('');

/** @param {Uint8Array<ArrayBuffer>} key @param {string} text */
async function hmac(key, text) {
  const imported = await crypto.subtle.importKey('raw', key, { name: 'HMAC', hash: 'SHA-256' }, false, ['sign']);
  return crypto.subtle.sign('HMAC', imported, encoder.encode(text));
}

/** Other forms of a body that frameworks make of it. @param {string} body @returns {[string, string][]} */
function otherForms(body) {
  /** @type {[string, string][]} */
  const forms = [[body.trim(), reasons.whitespace], [`${body}\n`, reasons.whitespace]];
  try {
    const value = JSON.parse(body);
    const compact = JSON.stringify(value);
    const escaped = compact.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
    const isCompact = body.trim() === compact;
    forms.push([escaped, isCompact ? reasons.encoding : reasons.reformatted], [compact, reasons.reformatted]);
  } catch {
    // A body that is not JSON has no other form.
  }
  return forms;
}

/**
 * Checks every signature of a request.
 * @param {{ secret: string, headers: string, body: string, now: number }} request `now` in seconds
 * @returns {Promise<{ error: string | null, results: Result[] }>}
 */
export async function check({ secret, headers: text, body, now }) {
  const headers = parseHeaders(text);
  const trimmed = secret.trim();
  if (!trimmed) return { error: reasons.noSecret, results: [] };
  const isPublic = trimmed.startsWith('whpk_');
  const prefix = isPublic ? 'whpk_' : 'whsec_';
  const key = trimmed.startsWith(prefix) ? fromBase64(trimmed.slice(prefix.length)) : null;
  if (!key) return { error: reasons.secretForm, results: [] };
  if (!isPublic && (key.length < 24 || key.length > 64)) return { error: reasons.secretLength, results: [] };
  const standard = headers.get('webhook-signature');
  const reference = headers.get('x-webhook-signature');
  if (!standard && !reference) return { error: reasons.noSignature, results: [] };
  const results = [];
  if (standard) results.push(isPublic ? await checkEd25519(key, headers, standard, body, now) : await checkStandard(trimmed, key, headers, standard, body, now));
  if (reference && !isPublic) results.push(await checkReference(trimmed, key, reference, body));
  if (trimmed !== secret) {
    for (const result of results) if (result.valid) result.reason ??= reasons.secretSpace;
  }
  return { error: null, results };
}

/** What is wrong with the id and the timestamp themselves. @param {Map<string, string>} headers */
function badHeaders(headers) {
  if (!headers.get('webhook-id')) return reasons.noId;
  if (!/^[0-9]{1,11}$/.test(headers.get('webhook-timestamp') ?? '')) return reasons.noTimestamp;
  return null;
}

/** @param {Map<string, string>} headers @param {number} now */
function staleness(headers, now) {
  const age = Math.round(now - Number(headers.get('webhook-timestamp')));
  return Math.abs(age) > TOLERANCE_SECONDS ? reasons.stale(age) : null;
}

/** @param {string} secret @param {Uint8Array<ArrayBuffer>} key @param {Map<string, string>} headers @param {string} header @param {string} body @param {number} now @returns {Promise<Result>} */
async function checkStandard(secret, key, headers, header, body, now) {
  const scheme = 'standard';
  const bad = badHeaders(headers);
  if (bad) return { scheme, valid: false, reason: bad };
  const given = header.split(' ').filter(Boolean);
  const signed = `${headers.get('webhook-id')}.${headers.get('webhook-timestamp')}.`;
  /** @param {Uint8Array<ArrayBuffer>} with_ @param {string} of */
  const signature = async (with_, of) => toBase64(await hmac(with_, signed + of));
  const right = await signature(key, body);
  if (given.includes(`v1,${right}`)) {
    const stale = staleness(headers, now);
    return { scheme, valid: stale === null, reason: stale };
  }
  const bare = given.map((one) => one.replace(/^v1[,=]/, ''));
  if (bare.includes(right)) return { scheme, valid: false, reason: reasons.prefix };
  if (!given.some((one) => one.startsWith('v1,'))) return { scheme, valid: false, reason: reasons.noScheme };
  if (bare.includes(await signature(encoder.encode(secret), body))) return { scheme, valid: false, reason: reasons.wholeKey };
  for (const [form, reason] of otherForms(body)) {
    if (bare.includes(await signature(key, form))) return { scheme, valid: false, reason };
  }
  // The other header covers the body alone, so it tells whether the body is right.
  const reference = headers.get('x-webhook-signature')?.replace(/^sha256=/, '');
  if (reference && reference === toHex(await hmac(encoder.encode(secret), body))) return { scheme, valid: false, reason: reasons.otherTimestamp };
  return { scheme, valid: false, reason: reasons.wrong };
}

/** @param {string} secret @param {Uint8Array<ArrayBuffer>} key @param {string} header @param {string} body @returns {Promise<Result>} */
async function checkReference(secret, key, header, body) {
  const scheme = 'reference';
  const given = header.trim().toLowerCase();
  /** @param {Uint8Array<ArrayBuffer>} with_ @param {string} of */
  const signature = async (with_, of) => toHex(await hmac(with_, of));
  const whole = encoder.encode(secret);
  const right = await signature(whole, body);
  if (given === `sha256=${right}`) return { scheme, valid: true, reason: null };
  const bare = given.replace(/^sha256=/, '');
  if (bare === right) return { scheme, valid: false, reason: reasons.prefix };
  if (bare === (await signature(key, body))) return { scheme, valid: false, reason: reasons.stripped };
  for (const [form, reason] of otherForms(body)) {
    if (bare === (await signature(whole, form))) return { scheme, valid: false, reason };
  }
  return { scheme, valid: false, reason: reasons.wrong };
}

/** @param {Uint8Array<ArrayBuffer>} key @param {Map<string, string>} headers @param {string} header @param {string} body @param {number} now @returns {Promise<Result>} */
async function checkEd25519(key, headers, header, body, now) {
  const scheme = 'ed25519';
  const bad = badHeaders(headers);
  if (bad) return { scheme, valid: false, reason: bad };
  const signatures = header.split(' ').filter((one) => one.startsWith('v1a,')).map((one) => fromBase64(one.slice(4)));
  if (signatures.length === 0) return { scheme, valid: false, reason: reasons.noScheme };
  let imported;
  try {
    imported = await crypto.subtle.importKey('raw', key, 'Ed25519', false, ['verify']);
  } catch {
    return { scheme, valid: false, reason: reasons.secretForm };
  }
  const signed = `${headers.get('webhook-id')}.${headers.get('webhook-timestamp')}.`;
  /** @param {string} of */
  const matches = async (of) => {
    for (const signature of signatures) {
      if (signature && (await crypto.subtle.verify('Ed25519', imported, signature, encoder.encode(signed + of)))) return true;
    }
    return false;
  };
  if (await matches(body)) {
    const stale = staleness(headers, now);
    return { scheme, valid: stale === null, reason: stale };
  }
  for (const [form, reason] of otherForms(body)) {
    if (await matches(form)) return { scheme, valid: false, reason };
  }
  return { scheme, valid: false, reason: reasons.wrong };
}
