// Logic without a browser: texts in the reader's language, places, troubles and their order,
// searches, lines of the stream.

import { CAUSES, PROBLEMS, REFUSED, TITLES, WORDS } from './words.js';

// Texts, numbers, times and durations

const KEPT = 'ebaas-router-language';
const LANGUAGES = ['en', 'zh'];

let language = chosen();

function chosen() {
  const kept = globalThis.localStorage?.getItem(KEPT);
  if (LANGUAGES.includes(kept)) return kept;
  return globalThis.navigator?.language?.startsWith('zh') ? 'zh' : 'en';
}

export const languageNow = () => language;

export function setLanguage(next) {
  language = next;
  globalThis.localStorage?.setItem(KEPT, next);
}

const locale = () => language === 'zh' ? 'zh-CN' : 'en-GB';

/** Whether there is a text for it: a reason may be newer than this page. */
export const isKnown = (key) => key in WORDS;

/** The text of `key`. `{n|letter|letters}` in it is chosen by whether n is one. */
export const text = (key, values = {}) => textNodes(key, values).join('');

/** The same as a list for a template, where a value may be an element, or a list of them. */
export function textNodes(key, values = {}) {
  const pair = WORDS[key];
  if (!pair) return [key];
  const words = pair[LANGUAGES.indexOf(language)];
  return words.split(/(\{[^}]+\})/).filter(Boolean).map((part) => {
    if (!part.startsWith('{')) return part;
    const [name, one, many] = part.slice(1, -1).split('|');
    if (one !== undefined) return values[name] === 1 ? one : many;
    const value = values[name] ?? '';
    return typeof value === 'number' ? number(value) : value;
  });
}

/** A cause of `/status`, in the reader's language. */
export function causeText({ code, text: english, params }) {
  const advice = REFUSED[params.code];
  return ofRouter(CAUSES[code], { ...params, ...(advice && { advice }) }, english);
}

/** A problem of the API, likewise. */
export function problemText({ code, params, detail, title }) {
  return ofRouter(PROBLEMS[code], params ?? {}, detail || title);
}

export const problemTitle = ({ status, title }) => ofRouter(TITLES[status], {}, title);

/** The router's own sentence is English. */
function ofRouter(chinese, params, english) {
  if (language === 'en' || !chinese) return english;
  return chinese.replace(/\{(\w+)\}/g, (_, name) => params[name] ?? '');
}

export const number = (value) => value.toLocaleString(locale());

export function percent(value) {
  return value === null ? '–' : value.toLocaleString(locale(), { style: 'percent' });
}

/** A latency, or `null`. */
export function milliseconds(value) {
  if (value === null || value === undefined) return '–';
  if (value >= 10_000) return `${number(Math.round(value / 1000))} s`;
  return `${number(value >= 10 ? Math.round(value) : Math.round(value * 10) / 10)} ms`;
}

/** A duration in its two largest units. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const s = whole % 60;
  const m = Math.floor(whole / 60) % 60;
  const hours = Math.floor(whole / 3600) % 24;
  const d = Math.floor(whole / 86400);
  if (d) return text('time.days', { d, h: hours });
  if (hours) return text('time.hours', { h: hours, m });
  if (m) return text(m >= 10 || !s ? 'time.minutes' : 'time.minutes_seconds', { m, s });
  return text('time.seconds', { s });
}

/** The time of day, with the date unless it is the day of `now`. */
export function clock(at, now = Date.now()) {
  const date = new Date(at);
  const day = new Date(now).toDateString() === date.toDateString() ? {}
    : { month: '2-digit', day: '2-digit' };
  return date.toLocaleString(locale(),
    { ...day, hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
}

/** The minute that begins so many minutes after `at`. */
export function minute(at, index) {
  return new Date(Date.parse(at) + index * 60_000)
    .toLocaleTimeString(locale(), { hour: '2-digit', minute: '2-digit', hour12: false });
}

/** The whole time with its offset from UTC, and in UTC: `2026-11-29 17:41:02 UTC+08:00, …`. */
export function wholeTime(at, offset = -new Date(at).getTimezoneOffset()) {
  const stamp = (time) => new Date(time).toISOString().slice(0, 19).replace('T', ' ');
  const utc = `${stamp(at)} UTC`;
  if (!offset) return utc;
  const digits = (value) => String(Math.trunc(Math.abs(value))).padStart(2, '0');
  const zone = `${offset < 0 ? '-' : '+'}${digits(offset / 60)}:${digits(offset % 60)}`;
  return `${stamp(Date.parse(at) + offset * 60_000)} UTC${zone}, ${utc}`;
}

// Places

/** `#/events/ID?target=ledger` as `{room, name, query}`; `name` is null for the room itself. */
export function placeOf(hash) {
  const [path, search = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  const [room, name] = path.split('/', 2);
  return {
    room: room || 'now',
    name: name ? decoded(name) : null,
    query: Object.fromEntries(new URLSearchParams(search)),
  };
}

/** The link to a place, without the empty parts of its query. */
export function linkTo(room, name = null, query = {}) {
  const entries = Object.entries(query).filter(([, value]) => value);
  const search = entries.length ? `?${new URLSearchParams(entries)}` : '';
  return `#/${room}${name ? `/${encodeURIComponent(name)}` : ''}${search}`;
}

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

// Troubles

/** `required` if any route requires it; null if no route has it. */
export function roleOf(target) {
  if (target.required_by.length) return 'required';
  return target.optional_by.length ? 'optional' : null;
}

/** The part of the recent attempts that failed; null without attempts. */
export const failureRate = ({ lately }) => lately.attempts ? lately.failed / lately.attempts : null;

/**
 * The causes of `/status` in its order, those of a target as one trouble:
 * `{key, severity, cause}` or `{key, severity, target}`.
 */
export function troublesOf({ causes }, targets) {
  const byName = new Map(targets.map((target) => [target.name, target]));
  const found = new Map();
  for (const cause of causes) {
    const target = byName.get(cause.params.target);
    const key = target ? `target ${target.name}`
      : `${cause.check} ${cause.code} ${cause.params.code ?? cause.params.target ?? ''}`;
    if (!found.has(key)) found.set(key, { key, severity: cause.severity, cause, target });
  }
  return [...found.values()];
}

// Searches

/** A key or a pattern of keys with closed sets, which can be followed. */
const KEY = /^(?=.*[.*?[])([^\s[]|\[[^\s\]]+\])+$/;

/** Whether the stream can follow the query: a key can be followed, an id or a time cannot. */
export function isFollowed({ what = '', since, code }) {
  return !since && !code && (!what || (KEY.test(what) && !what.includes('/')));
}

/** The word for the id by which a search found a row; null for a key. */
export function matchedBy({ matched_by: by }) {
  if (!by || by === 'event_key') return null;
  return by === 'event_id' ? 'event.id' : `event.${by}`;
}

/** The words for rules of the schema, and for other faults. */
const FAULTS = { required: 'fault.missing', minLength: 'fault.empty', type: 'fault.type',
  'no route matches': 'no_route', 'its body was not kept whole': 'fault.clipped' };

/** The fault of a refused callback: `event_type is empty`. */
export function faultText(why) {
  const [, field, rule = why] = /^(.+?): (.+)$/.exec(why) ?? [];
  return FAULTS[rule] ? text(FAULTS[rule], { field }) : why;
}

// Lines of the stream, and results of a search

/** Each line once, the newest first, at most `most`. */
export function merged(lists, most) {
  const lines = new Map(lists.flat().reverse().map((line) => [lineKey(line), line]));
  const newest = (one, other) => Date.parse(other.at) - Date.parse(one.at);
  return [...lines.values()].reverse().sort(newest).slice(0, most);
}

export function lineKey(line) {
  return `${line.at} ${line.event_id} ${line.request_id} ${line.what} ${line.target}`;
}

/** Lines by their event: `{key, last, earlier}`, in the order of each event's last line. */
export function grouped(lines) {
  const groups = new Map();
  for (const line of lines) {
    const key = line.event_id || lineKey(line);
    if (groups.has(key)) groups.get(key).earlier.push(line);
    else groups.set(key, { key, last: line, earlier: [] });
  }
  return [...groups.values()];
}

// Routes

/** Routes by their file: `{file, owner, routes}`, the files of an owner together. */
export function routesByFile(routes) {
  const files = new Map();
  for (const route of routes) {
    const { file, owner } = route;
    if (!files.has(file)) files.set(file, { file, owner: owner ?? '', routes: [] });
    files.get(file).routes.push(route);
  }
  return [...files.values()].sort((one, other) => (one.owner < other.owner ? -1
    : Number(one.owner > other.owner)));
}
