// The bar of every room: links to the others, the state of the stream, the token.

import { h } from './elements.js';
import { clock, duration } from './figures.js';
import { linkTo } from './place.js';
import { languageNow, setLanguage, text } from './language.js';
import { themeNow, setTheme } from './theme.js';

/** The rooms in the bar, also by digit keys. Teams do not see nodes. */
export function navOf(page) {
  return ['now', 'events', 'dead', 'routes', ...(page.isTeams() ? [] : ['nodes'])];
}

export function bar(state, page) {
  const here = state.place.room === 'targets' ? 'now' : state.place.room;
  return h('header', null,
    h('a', { class: 'brand', href: linkTo('now') }, text('product')),
    h('nav', { 'aria-label': text('rooms') }, navOf(page).map((room, index) => h('a', {
      href: linkTo(room), 'aria-current': room === here ? 'page' : null,
      'aria-keyshortcuts': String(index + 1) }, text(room)))),
    h('div', { class: 'side' }, mark(state), who(state, page), language(page), theme(page)));
}

/** The notice that the router does not answer. */
export function notice({ goneSince }) {
  if (!goneSince) return null;
  return h('div', { class: 'notice', role: 'alert' }, text('gone', {
    at: clock(goneSince), age: duration((Date.now() - goneSince) / 1000) }));
}

/** Whether the page is live; nothing if there is no data. */
function mark({ isLive, goneSince, you, problem }) {
  if ((!you || problem) && !goneSince) return null;
  const live = isLive && !goneSince;
  return h('span', { class: `live ${live ? 'on' : 'off'}`, role: 'status' },
    text(live ? 'live' : 'live.off'));
}

function who({ you }, page) {
  if (!you?.name) return null;
  return h('button', { type: 'button', title: text('token.forget'), onclick: page.leave },
    text('token.leave', { name: you.name }));
}

function language(page) {
  const other = languageNow() === 'zh' ? 'en' : 'zh';
  return h('button', { type: 'button', lang: other, title: text('language'), onclick: () => {
    setLanguage(other);
    page.draw();
  } }, other === 'zh' ? '中文' : 'EN');
}

function theme(page) {
  const other = themeNow() === 'dark' ? 'light' : 'dark';
  return h('button', { type: 'button', title: text('theme'), onclick: () => {
    setTheme(other);
    page.draw();
  } }, text(`theme.${other}`));
}
