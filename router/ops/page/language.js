// Texts in the reader's language.

import { CAUSES, PROBLEMS, REFUSED, TITLES, WORDS } from './words.js';

const KEPT = 'ebaas-router-language';
const LANGUAGES = ['en', 'zh'];

let language = chosen();

function chosen() {
  const kept = localStorage.getItem(KEPT);
  if (LANGUAGES.includes(kept)) return kept;
  return navigator.language.startsWith('zh') ? 'zh' : 'en';
}

export function languageNow() {
  return language;
}

export function setLanguage(next) {
  language = next;
  localStorage.setItem(KEPT, next);
}

/** For dates and numbers. */
export function locale() {
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

/** The same as a list for `h`, where a value may be an element, or a list of them. */
export function textNodes(key, values = {}) {
  const pair = WORDS[key];
  if (!pair) return [key];
  const words = pair[LANGUAGES.indexOf(language)];
  return words.split(/(\{[^}]+\})/).filter(Boolean).map((part) => {
    if (!part.startsWith('{')) return part;
    const [name, one, many] = part.slice(1, -1).split('|');
    if (one !== undefined) return values[name] === 1 ? one : many;
    const value = values[name] ?? '';
    return typeof value === 'number' ? value.toLocaleString(locale()) : value;
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
