// The router's API and its stream. The token is sent in a header only; all tabs share it.
//
// This module is loaded first, and its first requests are sent while the others arrive.

const KEPT = 'ebaas-router-token';

/** Longer than the longest search, and than the longest look through the archive, in ms. */
const PATIENCE = 15_000;
const LONG = 600_000;

/** The stream is broken after this silence, in milliseconds: the router beats every second. */
const SILENCE = 2800;

/** Waits before another try, in milliseconds; the last one repeats. */
const WAITS = [500, 1000, 2000, 5000];

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

// The token

const tabs = new BroadcastChannel(KEPT);

export const token = () => sessionStorage.getItem(KEPT) ?? '';

export function keepToken(value) {
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

/** The first answers, by their paths. */
const early = new Map();

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
async function reach(path, options) {
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

// The live stream: server-sent events, read by fetch because the token is in a header

/**
 * Follows the stream until it is closed by the function that this returns. Calls
 * `receive(kind, data)` for each event, and `mark(isLive)` when the stream breaks or returns.
 */
export function follow(query, receive, mark) {
  const closing = new AbortController();
  keepFollowing(query, receive, mark, closing.signal);
  return () => closing.abort();
}

async function keepFollowing(query, receive, mark, closed) {
  const path = `stream?${new URLSearchParams(query)}`;
  for (let tries = 0; !closed.aborted; tries += 1) {
    const silent = new AbortController();
    const wait = () => setTimeout(() => silent.abort(), SILENCE);
    let timer = wait();
    try {
      const signal = AbortSignal.any([closed, silent.signal]);
      const response = await reach(path, { signal });
      // Without access there is no stream; a wrong token is not sent again.
      if (response.status === 401) return;
      if (!response.ok) throw new Gone(`HTTP ${response.status}`);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        clearTimeout(timer);
        timer = wait();
        tries = 0;
        const blocks = (rest + value).split('\n\n');
        rest = blocks.pop();
        for (const [kind, data] of blocks.map(eventOf)) {
          // No event is missed from the first beat on.
          if (kind === 'beat') mark(true);
          else if (data) receive(kind, data);
        }
      }
    } catch {
      // Any broken stream is tried again.
    } finally {
      clearTimeout(timer);
    }
    if (closed.aborted) return;
    mark(false);
    const pause = WAITS[Math.min(tries, WAITS.length - 1)];
    await new Promise((resolve) => { setTimeout(resolve, pause); });
  }
}

/** One block of lines, without comments. */
function eventOf(block) {
  const lines = block.split('\n');
  const field = (name) => lines.filter((line) => line.startsWith(name))
    .map((line) => line.slice(name.length).trimStart()).join('\n');
  return [field('event:'), field('data:') && JSON.parse(field('data:'))];
}

// The start

if (token()) {
  for (const path of ['you', 'status', 'targets', 'minutes']) {
    const answer = answered(path, {});
    answer.catch(() => {});
    early.set(path, answer);
  }
}

// If a part of the page does not arrive, all of it is requested again.
import('./main.js').catch(() => {
  document.getElementById('page').textContent =
    'The page could not be loaded; it is tried again. 页面加载失败，正在重试。';
  setTimeout(() => location.reload(), 2000);
});
