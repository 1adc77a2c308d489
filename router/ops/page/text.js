// Texts in the reader's language; numbers, times and durations as text.

import { CAUSES, PROBLEMS, REFUSED, TITLES, WORDS } from './words.js';

const KEPT = 'ebaas-router-language';
const LANGUAGES = ['en', 'zh'];

let language = chosen();

function chosen() {
  const kept = globalThis.localStorage?.getItem(KEPT);
  if (LANGUAGES.includes(kept)) return kept;
  return globalThis.navigator?.language?.startsWith('zh') ? 'zh' : 'en';
}

export function languageNow() {
  return language;
}

export function setLanguage(next) {
  language = next;
  globalThis.localStorage?.setItem(KEPT, next);
}

function locale() {
  return language === 'zh' ? 'zh-CN' : 'en-GB';
}

/** Whether there is a text for it: a reason may be newer than this page. */
export function isKnown(key) {
  return key in WORDS;
}

/** The text of `key`. `{n|letter|letters}` in it is chosen by whether n is one. */
export function text(key, values = {}) {
  return textNodes(key, values).join('');
}

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

export function problemTitle({ status, title }) {
  return ofRouter(TITLES[status], {}, title);
}

/** The router's own sentence is English. */
function ofRouter(chinese, params, english) {
  if (language === 'en' || !chinese) return english;
  return chinese.replace(/\{(\w+)\}/g, (_, name) => params[name] ?? '');
}

export function number(value) {
  return value.toLocaleString(locale());
}

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
