/** A page that is loaded when it is first shown, so that the first page stays small. */
import { html, useEffect, useState } from './vendor/preact-htm.js';
import { Failure, Loading } from './ui.js';

/** @param {{ load: () => Promise<{ default: any }>, [name: string]: any }} props */
export function Lazy({ load, ...props }) {
  const [Page, setPage] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  useEffect(() => {
    load().then((module) => setPage(() => module.default), setError);
  }, []);
  if (error) return html`<${Failure} error=${error} />`;
  return Page ? html`<${Page} ...${props} />` : html`<${Loading} />`;
}
