// The router's API. The token goes in the header alone, and is kept for as long as the tab.

const KEPT = 'ebaas-router-token';

/** Longer than the longest search, in milliseconds. */
const PATIENCE = 15_000;

/** A problem document of the router. */
export class Problem extends Error {
  constructor(status, said) {
    super(said.detail || said.title || String(status));
    this.status = status;
    this.title = said.title ?? '';
    this.detail = said.detail ?? '';
    this.code = said.code;
    this.params = said.params;
  }
}

/** Nobody answered, or somebody who is not the router. */
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

export function keepToken(said) {
  if (said) sessionStorage.setItem(KEPT, said);
  else sessionStorage.removeItem(KEPT);
}

/** What the API has there. Raises Problem, or Gone. */
export async function ask(path, query = {}) {
  const said = Object.entries(query).filter(([, value]) => value !== null && value !== '');
  return answered(said.length ? `${path}?${new URLSearchParams(said)}` : path, {});
}

/** Asks the API to do something. Raises like `ask`. */
export async function act(path, what) {
  const headers = { 'content-type': 'application/json' };
  return answered(path, { method: 'POST', headers, body: JSON.stringify(what) });
}

/** The response itself, for who reads it bit by bit. Raises Gone. */
export async function reach(path, options) {
  const headers = { ...options.headers, accept: 'application/json, text/event-stream' };
  // A header takes bytes. What was typed with another keyboard is a wrong token, and no failure.
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
  const said = await jsonOf(response);
  const date = Date.parse(response.headers.get('date') ?? '');
  // A second is the header's own precision.
  if (date) ahead = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
  if (!response.ok) throw new Problem(response.status, said);
  return said;
}

/** A proxy's page is no answer of the router's. */
async function jsonOf(response) {
  const type = response.headers.get('content-type') ?? '';
  if (!/^application\/(problem\+)?json/.test(type)) throw new Gone(`HTTP ${response.status}`);
  try {
    return await response.json();
  } catch (error) {
    throw new Gone(error.message);
  }
}
