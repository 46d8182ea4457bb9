/** The signature debugger. */
import { html, useState } from '../vendor/preact-htm.js';
import { check } from '../signature_check.js';
import { texts } from '../texts.js';
import { Failure, Field } from '../ui.js';

/** @import { Result } from '../signature_check.js' */

const t = texts.signature;

export default function SignaturePage() {
  const [values, setValues] = useState({ secret: '', headers: '', body: '' });
  const [outcome, setOutcome] = useState(/** @type {{ error: string | null, results: Result[] } | null} */ (null));
  /** @param {'secret' | 'headers' | 'body'} name */
  const bind = (name) => ({
    value: values[name],
    onInput: (/** @type {any} */ event) => setValues((before) => ({ ...before, [name]: event.currentTarget.value })),
  });
  /** @param {Event} event */
  const submit = async (event) => {
    event.preventDefault();
    setOutcome(await check({ ...values, now: Date.now() / 1000 }));
  };
  return html`<section class="narrow">
    <h1>${t.title}</h1>
    <p>${t.explain}</p>
    <form onSubmit=${submit}>
      <${Field} label=${t.secret} help=${t.secretHelp}>
        ${(/** @type {any} */ attributes) => html`<input ...${attributes} ...${bind('secret')} autocomplete="off" spellcheck="false" class="mono" />`}
      <//>
      <${Field} label=${t.headers} help=${t.headersHelp}>
        ${(/** @type {any} */ attributes) => html`<textarea ...${attributes} ...${bind('headers')} rows="5" class="mono" spellcheck="false"></textarea>`}
      <//>
      <${Field} label=${t.body} help=${t.bodyHelp}>
        ${(/** @type {any} */ attributes) => html`<textarea ...${attributes} ...${bind('body')} rows="6" class="mono" spellcheck="false"></textarea>`}
      <//>
      <div class="buttons"><button type="submit" class="primary">${t.submit}</button></div>
    </form>
    <div aria-live="polite">
      ${outcome?.error && html`<${Failure} error=${new Error(outcome.error)} />`}
      ${outcome?.results.map((result) => html`<div key=${result.scheme} class=${result.valid ? 'notice good' : 'notice bad'}>
        <p><strong>${t.schemes[result.scheme]}: ${result.valid ? t.valid : t.invalid}</strong></p>
        ${result.reason && html`<p>${result.reason}</p>`}
      </div>`)}
    </div>
  </section>`;
}
