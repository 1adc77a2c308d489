// Joins the parts: the current room, its data, and its updates.

import { Gone, Problem, ask, keepToken, token } from './api.js';
import { h, morph } from './elements.js';
import { bar, navOf, notice } from './frame.js';
import { linkTo, placeOf } from './place.js';
import { follow } from './stream.js';
import { languageNow, problemText, problemTitle, text } from './language.js';
import { themeNow, setTheme } from './theme.js';
import { dead } from './rooms/dead.js';
import { event } from './rooms/event.js';
import { events } from './rooms/events.js';
import { nodes } from './rooms/nodes.js';
import { now } from './rooms/now.js';
import { routes } from './rooms/routes.js';
import { target } from './rooms/target.js';
import { tokenEntry } from './rooms/token.js';

/** How often the data is loaded, in milliseconds; and while the router does not answer. */
const OFTEN = 5000;
const GONE = 2000;

/** How often the stream may cause a drawing or a load at most, in milliseconds. */
const DRAWN = 250;
const ASKED = 1000;

/** The state of the page. */
const state = {
  place: placeOf(location.hash),
  /** The token's holder and permissions; null until loaded. */
  you: null,
  /** The data, and its place. It is shown until the next data is loaded. */
  data: null,
  loaded: null,
  /** Why this place could not be loaded: a Problem, or null. */
  problem: null,
  /** The problem that denies access. Nothing is loaded until there is another token. */
  refusal: null,
  isLive: false,
  /** Since when the router has not answered, in milliseconds; null if it answers. */
  goneSince: null,
  /** The number of problems, for the title; the targets' names, for inputs. */
  wrong: 0,
  targets: [],
};

const page = {
  go(link) {
    location.hash = link;
    arrive();
  },
  /** Goes there without a new entry in the browser's history. */
  replace(link) {
    history.replaceState(null, '', link);
    state.place = placeOf(location.hash);
    state.loaded = state.place;
    draw();
  },
  draw,
  load,
  soon,
  begin,
  /** Removes the token. */
  leave() {
    keepToken('');
    Object.assign(state, { you: null, data: null, loaded: null, isLive: false });
    unfollow();
    begin();
  },
  failed: (error) => {
    failed(error);
    draw();
  },
  may: (what) => state.you?.may.includes(what) ?? false,
  /** Whether the token is a team's. */
  isTeams: () => Boolean(state.you?.owner),
  /** Without tokens nothing can be changed. */
  isReadOnly: () => state.you?.tokens === false,
};

function roomOf({ room, name }) {
  if (room === 'targets' && name) return target;
  if (room === 'events' && name) return event;
  return { __proto__: null, now, events, dead, routes, nodes }[room] ?? now;
}

// Loading

let timer = null;
let asking = null;
let unfollow = () => {};
let followed = null;

/** Starts anew with the current token. */
async function begin() {
  state.refusal = null;
  followed = null;
  await load();
}

/** Loads the data of the room. Only the last load counts. */
async function load() {
  clearTimeout(timer);
  const { place, you, data, loaded } = state;
  const began = Date.now();
  const mine = Symbol('ask');
  asking = mine;
  const room = roomOf(place);
  const before = isLoaded(place) ? state.data : null;
  try {
    state.you ??= await ask('you');
    const found = await room.load(place, before);
    if (asking !== mine) return;
    const isNew = !isLoaded(place);
    Object.assign(state, { data: found, loaded: place, problem: null, refusal: null,
      goneSince: null });
    if (room === now) noteTargets(found);
    draw();
    // The forms show the place, not what was typed elsewhere.
    if (isNew) for (const form of document.forms) form.reset();
  } catch (error) {
    if (asking !== mine) return;
    // If the answer can't be drawn, the data before it can.
    if (!isExpected(error)) Object.assign(state, { you, data, loaded });
    failed(error, began);
    draw();
  }
  if (state.refusal) return;
  listen();
  const often = state.goneSince ? GONE : room.seldom ? OFTEN * 6 : OFTEN;
  timer = setTimeout(() => (document.hidden && !state.goneSince ? null : load()), often);
}

function isLoaded(place) {
  return JSON.stringify(state.loaded) === JSON.stringify(place);
}

/** Whether it is a problem of the router, or no answer. */
function isExpected(error) {
  return error instanceof Problem || error instanceof Gone;
}

/** Any other error means an unreadable answer, which counts as none. `since`: of the request. */
function failed(error, since = Date.now()) {
  if (error.status === 401 || (error.status === 403 && !state.you)) {
    refused(error);
  } else if (error instanceof Problem) {
    Object.assign(state, { problem: error, goneSince: null });
  } else {
    if (!isExpected(error)) reportError(error);
    state.goneSince ??= since;
  }
}

/** Forgets a wrong token: the router limits how often one may be sent. */
function refused({ status, title, detail, code, params }) {
  const had = Boolean(token());
  keepToken('');
  unfollow();
  Object.assign(state, { you: null, data: null, loaded: null, isLive: false, goneSince: null,
    refusal: { status, title, detail, code, params, had } });
}

function noteTargets(data) {
  state.wrong = now.wrong(data);
  state.targets = data.targets.map((each) => each.name).sort();
}

/** Loads the targets' names and the problems if another room is open. */
async function glance() {
  if (roomOf(state.place) === now || state.goneSince || !state.you || document.hidden) return;
  try {
    const [status, { targets }] = await Promise.all([ask('status'), ask('targets')]);
    noteTargets({ status, targets });
    draw();
  } catch {
    // The room's own load shows the problem.
  }
}

// The stream

let drawing = null;
let loading = null;

/** Follows the stream by the room's filter; by default only failures. */
function listen() {
  if (!isLoaded(state.place) || state.goneSince) return;
  const query = roomOf(state.place).stream?.(state.place, state.data) || { failed: 'true' };
  const wanted = JSON.stringify(query);
  if (wanted === followed) return;
  unfollow();
  followed = wanted;
  unfollow = follow(query, receive, (isLive) => {
    if (state.isLive !== isLive) {
      state.isLive = isLive;
      if (isLive && isLoaded(state.place)) roomOf(state.place).connected?.(state.data, state.place);
      if (isLive) load();
      else draw();
    }
  });
}

function receive(kind, what) {
  if (!isLoaded(state.place) || kind === 'beat') return;
  const answer = roomOf(state.place).receive?.(state.data, kind, what, state.place);
  if (answer === 'draw') drawing ??= setTimeout(() => { drawing = null; draw(); }, DRAWN);
  if (answer === 'load') soon();
}

/** Loads again in a moment, once for all calls until then. */
function soon() {
  loading ??= setTimeout(() => { loading = null; load(); }, ASKED);
}

// Drawing

const root = document.getElementById('page');

function draw() {
  document.documentElement.lang = languageNow() === 'zh' ? 'zh-CN' : 'en';
  const wrong = state.wrong ? `(${state.wrong}) ` : '';
  document.title = `${wrong}${titleOf(state.place)} · ${text('product')}`;
  const fresh = h('div', { id: 'page' },
    h('a', { class: 'skip', href: '#main', onclick: (click) => {
      click.preventDefault();
      document.querySelector('main').focus();
    } }, text('skip')),
    bar(state, page),
    notice(state),
    h('main', { id: 'main', tabindex: -1, 'aria-busy': String(isAwaited()) }, shown()),
    h('datalist', { id: 'targets' }, state.targets.map((name) => h('option', { value: name }))));
  morph(root, fresh);
}

function isAwaited() {
  return !isLoaded(state.place) && !state.refusal && !state.problem;
}

function titleOf(place) {
  if (state.refusal) return text('token');
  return roomOf(place).title(place);
}

function shown() {
  if (state.refusal) return tokenEntry(state.refusal, page);
  if (state.problem && !isLoaded(state.place)) {
    return h('div', null, h('h1', { tabindex: -1 }, problemTitle(state.problem)),
      h('p', null, problemText(state.problem)));
  }
  if (!state.data) {
    return h('p', { class: 'quiet' }, text(state.goneSince ? 'gone.room' : 'looking'));
  }
  return [
    state.problem ? h('p', { class: 'panel bad', role: 'alert' },
      problemText(state.problem)) : null,
    roomOf(state.loaded).view(state.data, state.loaded, page),
  ];
}

// Navigation

window.addEventListener('hashchange', arrive);

/** Another room begins at its top, with the focus on its heading. */
async function arrive() {
  const before = state.place;
  const next = placeOf(location.hash);
  if (JSON.stringify(next) === JSON.stringify(before)) {
    if (isAwaited()) return;
    // The same link again means a reload.
    state.loaded = null;
  }
  const isOther = roomOf(before) !== roomOf(next) || before.name !== next.name;
  Object.assign(state, { place: next, problem: null });
  draw();
  if (isOther) scrollTo(0, 0);
  if (state.refusal) return;
  await load();
  if (isOther) document.querySelector('h1')?.focus();
}

document.addEventListener('visibilitychange', () => {
  if (!document.hidden && !state.refusal) load();
});

/** `/` leads to the search, a digit to a room, unless an input has the focus. */
document.addEventListener('keydown', (pressed) => {
  if (pressed.ctrlKey || pressed.metaKey || pressed.altKey) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(pressed.target.nodeName)) return;
  const room = navOf(page)[Number(pressed.key) - 1];
  if (room) page.go(linkTo(room));
  if (pressed.key === '/') {
    pressed.preventDefault();
    const search = document.querySelector('.search');
    if (search) search.focus();
    else page.go(linkTo('events'));
  }
});

setInterval(glance, OFTEN * 3);
setTheme(themeNow());
draw();
begin().then(glance);
