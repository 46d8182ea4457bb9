/**
 * Signing in by OpenID Connect: authorization code with PKCE. The token stays in memory; only the
 * verifier of a sign-in that has begun is kept in the tab's session storage, until the user returns.
 */
import * as oauth from './vendor/oauth4webapi.js';

/** @import { Config } from './types.js' */

const KEY = 'webhooks-console-sign-in';

const redirectUri = () => `${location.origin}/console`;

/** @param {Config} config */
async function server(config) {
  const issuer = new URL(/** @type {string} */ (config.issuer));
  const options = config.development ? { [oauth.allowInsecureRequests]: true } : {};
  return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, options));
}

/** Whether the user returns from the issuer. */
export function isReturning() {
  const parameters = new URL(location.href).searchParams;
  return parameters.has('code') || parameters.has('error');
}

/** Sends the user to the issuer. @param {Config} config */
export async function begin(config) {
  const { authorization_endpoint } = await server(config);
  if (!authorization_endpoint) throw new Error('The issuer has no authorization endpoint.');
  const verifier = oauth.generateRandomCodeVerifier();
  const [state, nonce] = [oauth.generateRandomState(), oauth.generateRandomNonce()];
  sessionStorage.setItem(KEY, JSON.stringify({ verifier, state, nonce, hash: location.hash }));
  const url = new URL(authorization_endpoint);
  url.search = new URLSearchParams({
    client_id: /** @type {string} */ (config.client_id),
    redirect_uri: redirectUri(),
    response_type: 'code',
    scope: config.scope ?? 'openid',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    nonce,
  }).toString();
  location.assign(url);
}

/** Exchanges the code for the token. @param {Config} config @returns {Promise<string>} */
export async function finish(config) {
  const begun = JSON.parse(sessionStorage.getItem(KEY) ?? 'null');
  sessionStorage.removeItem(KEY);
  const current = new URL(location.href);
  history.replaceState(null, '', `/console${begun?.hash ?? ''}`);
  if (!begun) throw new Error('The sign-in did not begin in this tab.');
  const authorization = await server(config);
  const client = { client_id: /** @type {string} */ (config.client_id) };
  const parameters = oauth.validateAuthResponse(authorization, client, current, begun.state);
  const options = config.development ? { [oauth.allowInsecureRequests]: true } : {};
  const response = await oauth.authorizationCodeGrantRequest(authorization, client, oauth.None(), parameters, redirectUri(), begun.verifier, options);
  const result = await oauth.processAuthorizationCodeResponse(authorization, client, response, { expectedNonce: begun.nonce, requireIdToken: true });
  return result.access_token;
}
