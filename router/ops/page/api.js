// The router's API. The token is sent in a header only; all tabs share it.
//
// This module is loaded first, and its first requests are sent while the others arrive.

const KEPT = 'ebaas-router-token';

/** Longer than the longest search, and than the longest look through the archive, in ms. */
const PATIENCE = 15_000;
const LONG = 600_000;

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
export const now = () => Date.now() + ahead;

/** The first answers, by their paths. */
const early = new Map();

// The token

const tabs = new BroadcastChannel(KEPT);

export const token = () => sessionStorage.getItem(KEPT) ?? '';

export function keepToken(value) {
  early.clear();
  if (value) sessionStorage.setItem(KEPT, value);
  else sessionStorage.removeItem(KEPT);
}

/** Gives the token to the other tabs; without one, they forget theirs. */
export function shareToken() {
  tabs.postMessage({ token: token() });
}

/** Calls `changed` when another tab has another token. Waits a moment for a first token. */
export async function followTabs(changed) {
  let arrived;
  tabs.onmessage = ({ data }) => {
    if (data.isWanted) {
      if (token()) shareToken();
    } else if (data.token !== token()) {
      keepToken(data.token);
      if (arrived) arrived();
      else changed();
    }
  };
  if (token()) return;
  tabs.postMessage({ isWanted: true });
  await new Promise((resolve) => { arrived = resolve; setTimeout(resolve, 100); });
  arrived = null;
}

// Requests

/** A GET request; a value may be a list. Raises Problem or Gone. */
export async function ask(path, query = {}) {
  const params = Object.entries(query).flatMap(([name, value]) =>
    [value].flat().filter((each) => each || each === 0).map((each) => [name, each]));
  const whole = params.length ? `${path}?${new URLSearchParams(params)}` : path;
  const answer = early.get(whole) ?? answered(whole, {});
  early.delete(whole);
  return answer;
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
  const patience = /^(refused|archive)/.test(path) ? LONG : PATIENCE;
  const response = await reach(path, { ...options, signal: AbortSignal.timeout(patience) });
  const type = response.headers.get('content-type') ?? '';
  // Such as a proxy's error page.
  if (!/^application\/(problem\+)?json/.test(type)) throw new Gone(`HTTP ${response.status}`);
  const body = await response.json().catch((error) => { throw new Gone(error.message); });
  const date = Date.parse(response.headers.get('date') ?? '');
  // A second is the header's own precision.
  if (date) ahead = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
  if (!response.ok) throw new Problem(response.status, body);
  return body;
}

// The start

// Without a token too: the router may need none.
for (const path of ['status', 'targets', 'minutes', 'you']) {
  const answer = answered(path, {});
  answer.catch(() => {});
  early.set(path, answer);
}

// If a part of the page does not arrive, all of it is requested again.
import('./main.js').catch(() => {
  document.getElementById('page').textContent =
    'The page could not be loaded; it is tried again. 页面加载失败，正在重试。';
  setTimeout(() => location.reload(), 2000);
});
