// Says things in the reader's language.

import { PHRASES, PROBLEMS, WORDS } from './words.js';

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

export function speak(next) {
  language = next;
  localStorage.setItem(KEPT, next);
}

/** For dates and numbers. */
export function locale() {
  return language === 'zh' ? 'zh-CN' : 'en-GB';
}

/** Whether there are words for it: reasons may be newer than this page. */
export function isKnown(key) {
  return key in WORDS;
}

/** The words of `key`, as text. `{n|letter|letters}` in them is chosen by whether n is one. */
export function text(key, values = {}) {
  return told(key, values).join('');
}

/** The same as a list for `h`, where a value may be an element, or a list of them. */
export function told(key, values = {}) {
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

/** A sentence of the router's own, which it says in English. */
export function translated(sentence) {
  if (language === 'en') return sentence;
  for (const [pattern, words] of [...PHRASES, ...PROBLEMS]) {
    const found = pattern.exec(sentence);
    if (found) return words.replace(/\$(\d)/g, (_, number) => found[number] ?? '');
  }
  return sentence;
}
