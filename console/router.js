/**
 * Which page is shown. The page of the console keeps it in the fragment of the URL, so that links,
 * the back button and reloads work. The element in another page keeps it in memory.
 *
 * A route is a path such as `/webhooks/wh_…/deliveries/dlv_…`.
 */
export class Router extends EventTarget {
  /** @param {boolean} usesFragment */
  constructor(usesFragment) {
    super();
    this.usesFragment = usesFragment;
    this.memory = '/';
    this.listener = () => this.dispatchEvent(new Event('change'));
    if (usesFragment) addEventListener('hashchange', this.listener);
  }

  get path() {
    return this.usesFragment ? decodeURI(location.hash.slice(1)) || '/' : this.memory;
  }

  get parts() {
    return this.path.split('?')[0].split('/').filter(Boolean).map(decodeURIComponent);
  }

  /** @param {string} path */
  go(path) {
    if (this.usesFragment) {
      location.hash = path;
    } else {
      this.memory = path;
      this.dispatchEvent(new Event('change'));
    }
  }

  /** What a link to a path has as its `href`. @param {string} path */
  href(path) {
    return this.usesFragment ? `#${path}` : '#';
  }

  stop() {
    removeEventListener('hashchange', this.listener);
  }
}
