// Numbers, times and durations as text.

import { now } from './api.js';
import { h } from './elements.js';
import { locale, text } from './language.js';

export function number(value) {
  return value.toLocaleString(locale());
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

/** A time of day, with the date unless it is today; its title is the full time in UTC. */
export function time(at) {
  if (!at) return '–';
  return h('time', { datetime: at, title: utc(at) }, clock(at));
}

/** `12 min ago`, or `in 12 min`. */
export function ago(at) {
  if (!at) return '–';
  const seconds = (now() - Date.parse(at)) / 1000;
  const key = seconds >= 0 ? 'time.ago' : 'time.in';
  return h('time', { datetime: at, title: `${clock(at)}, ${utc(at)}` },
    text(key, { age: duration(Math.abs(seconds)) }));
}

/** The same as text, for titles and charts. */
export function clock(at) {
  const date = new Date(at);
  const day = new Date(now()).toDateString() === date.toDateString() ? {}
    : { month: '2-digit', day: '2-digit' };
  return date.toLocaleString(locale(),
    { ...day, hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });
}

/** The minute that begins so many minutes after `at`. */
export function minute(at, index) {
  return new Date(Date.parse(at) + index * 60_000)
    .toLocaleTimeString(locale(), { hour: '2-digit', minute: '2-digit', hour12: false });
}

function utc(at) {
  return `${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
