// The router's API. The token is sent in a header only, and kept until the tab is closed.

const KEPT = 'ebaas-router-token';

/** Longer than the longest search, in milliseconds. */
const PATIENCE = 15_000;

/** A problem document of the router. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || String(status));
    this.status = status;
    this.title = body.title ?? '';
    this.detail = body.detail ?? '';
    this.code = body.code;
    this.params = body.params;
  }
}

/** No answer, or one that is not the router's. */
export class Gone extends Error {}

/** How far the router's clock is ahead of this machine's, in milliseconds. */
let ahead = 0;

/** The router's time, in milliseconds. */
export function now() {
  return Date.now() + ahead;
}

export function token() {
  return sessionStorage.getItem(KEPT) ?? '';
}

export function keepToken(value) {
  if (value) sessionStorage.setItem(KEPT, value);
  else sessionStorage.removeItem(KEPT);
}

/** A GET request. Raises Problem or Gone. */
export async function ask(path, query = {}) {
  const params = Object.entries(query).filter(([, value]) => value !== null && value !== '');
  return answered(params.length ? `${path}?${new URLSearchParams(params)}` : path, {});
}

/** A POST request. Raises Problem or Gone. */
export async function act(path, what) {
  const headers = { 'content-type': 'application/json' };
  return answered(path, { method: 'POST', headers, body: JSON.stringify(what) });
}

/** The response itself, to be read in parts. Raises Gone. */
export async function reach(path, options) {
  const headers = { ...options.headers, accept: 'application/json, text/event-stream' };
  // A header takes bytes. A token with other characters is sent too, as a wrong token.
  const bytes = new TextEncoder().encode(token());
  if (token()) headers.authorization = `Bearer ${String.fromCharCode(...bytes)}`;
  try {
    return await fetch(`/api/v1/${path}`, { ...options, headers, cache: 'no-store' });
  } catch (error) {
    throw new Gone(error.message);
  }
}

async function answered(path, options) {
  const response = await reach(path, { ...options, signal: AbortSignal.timeout(PATIENCE) });
  const body = await jsonOf(response);
  const date = Date.parse(response.headers.get('date') ?? '');
  // A second is the header's own precision.
  if (date) ahead = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
  if (!response.ok) throw new Problem(response.status, body);
  return body;
}

/** Raises Gone for another content type, such as a proxy's error page. */
async function jsonOf(response) {
  const type = response.headers.get('content-type') ?? '';
  if (!/^application\/(problem\+)?json/.test(type)) throw new Gone(`HTTP ${response.status}`);
  try {
    return await response.json();
  } catch (error) {
    throw new Gone(error.message);
  }
}
