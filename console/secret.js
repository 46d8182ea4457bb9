/** The one moment in which a secret is shown. */
import { html } from './vendor/preact-htm.js';
import { texts } from './texts.js';
import { Copy, Dialog } from './ui.js';

/** @import { Webhook } from './types.js' */

/** @param {{ title: string, webhook: Webhook, onClose: () => void }} props */
export function SecretDialog({ title, webhook, onClose }) {
  const secret = webhook.secret ?? webhook.public_key ?? '';
  return html`<${Dialog} title=${title} onClose=${onClose} dismissable=${false}>
    <h3>${webhook.secret ? texts.secret.title : texts.webhook.publicKey}</h3>
    ${webhook.secret && html`<p>${texts.secret.once}</p>`}
    <p class="secret"><code>${secret}</code> <${Copy} text=${secret} /></p>
    <div class="buttons"><button type="button" class="primary" onClick=${onClose}>${texts.secret.done}</button></div>
  <//>`;
}
