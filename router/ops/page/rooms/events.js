// Events: live, or found by a search.

import { ask } from '../api.js';
import { h } from '../elements.js';
import { clock, time } from '../figures.js';
import { linkTo, queryOf } from '../place.js';
import { table } from '../table.js';
import { resultOf, wordsOf, targetLink } from '../targets.js';
import { isKnown, text, textNodes } from '../language.js';

/** How many live rows are kept at most. */
const KEPT = 200;

/** A key or a pattern of keys with closed sets, which can be followed. */
const KEY = /^(?=.*[.*?[])([^\s[]|\[[^\s\]]+\])+$/;

/** Log events that always need attention. */
const BAD = new Set(['unmatched', 'dead_letter', 'lost', 'failing', 'store']);

/** How many more results "More" requests, and the limit of the API. */
const PAGE = 50;
const MOST = 200;

export const events = {
  title: () => text('events'),

  async load(place, before) {
    const { query } = place;
    // A search costs a process, so it is not repeated: the stream adds new rows. After a broken
    // stream one search finds the rows that were missed.
    if (before && !before.missed) return before;
    const found = await ask('events', { ...asked(query), limit: query.limit || PAGE });
    const data = before ? { ...before, missed: false }
      : { rows: [], held: null, news: [] };
    const name = data.held ? 'held' : 'rows';
    return { ...data, found, [name]: merged(data[name], found.events) };
  },

  connected: (data, { query }) => { data.missed = isFollowed(query); },

  /** The filter of the stream; false for a search. */
  stream: ({ query }) => isFollowed(query) && {
    ...(query.target && { target: query.target }),
    ...(query.what && { match: query.what }),
    ...(query.failed && { failed: 'true' }),
  },

  receive(data, kind, what, place) {
    const isExpected = kind === 'event' || isKnown(`happening.${kind}`);
    if (!isFollowed(place.query) || !isExpected) return null;
    data.news.push({ ...what, what: what.what ?? kind, at: what.at ?? what.time });
    // One drawing can't show more.
    data.news.splice(0, data.news.length - KEPT);
    return 'draw';
  },

  view(data, place, page) {
    takeNews(data);
    const followed = isFollowed(place.query);
    return h('div', null,
      h('h1', { tabindex: -1 }, text('events')),
      filters(place, page),
      h('p', { class: 'acts' },
        followed ? holding(data, page) : h('a', { href: linkTo('events') }, text('events.follow')),
        h('span', { class: 'quiet' }, followed ? text('events.following') : reach(data.found))),
      data.rows.length ? rowsOf(data) : h('p', { class: 'quiet' }, nothing(followed, data.found)),
      !followed && data.found.more ? more(place.query) : null);
  },
};

function asked({ what, since, target, code, failed }) {
  return { what: what ?? '', since: since ?? '', target: target ?? '', code: code ?? '',
    failed: failed ? 'true' : '' };
}

function more(query) {
  const limit = Number(query.limit || PAGE) + PAGE;
  if (limit > MOST) return h('p', { class: 'quiet' }, text('events.narrow'));
  return h('p', null, h('a', { class: 'button',
    href: linkTo('events', null, { ...query, limit: String(limit) }) }, text('more')));
}

/** Whether the stream can follow the query: a key can be followed, an id or a time cannot. */
function isFollowed({ what = '', since, code }) {
  return !since && !code && (!what || (KEY.test(what) && !what.includes('/')));
}

/** Adds the rows since the last drawing. */
function takeNews(data) {
  const name = data.held ? 'held' : 'rows';
  data[name] = merged(data.news.splice(0).reverse(), data[name]);
}

/** Each row once, the newest first. */
function merged(...lists) {
  const rows = new Map(lists.flat().reverse().map((row) => [keyOf(row), row]));
  const newest = (one, other) => Date.parse(other.at) - Date.parse(one.at);
  return [...rows.values()].reverse().sort(newest).slice(0, KEPT);
}

function keyOf(row) {
  return `${row.at} ${row.event_id} ${row.request_id} ${row.what} ${row.target}`;
}

function filters({ query }, page) {
  const option = (value, words) =>
    h('option', { value, selected: (query.since ?? '') === value }, words);
  return h('form', { class: 'filters', role: 'search', onsubmit: (event) => {
    event.preventDefault();
    page.go(linkTo('events', null, queryOf(event.currentTarget)));
  } },
  h('label', { class: 'wide' }, text('events.what'),
    h('input', { name: 'what', type: 'search', value: query.what ?? '', class: 'search',
      placeholder: text('events.what_example'), autocomplete: 'off', spellcheck: 'false' })),
  h('label', null, text('events.since'), h('select', { name: 'since' },
    option('', text('events.now')),
    ['15m', '1h', '3h', '24h', '7d'].map((each) => option(each, text(`since.${each}`))))),
  h('label', null, text('target'), h('input', { name: 'target', value: query.target ?? '',
    list: 'targets', autocomplete: 'off', spellcheck: 'false' })),
  h('label', null, text('events.code'), h('input', { name: 'code', value: query.code ?? '',
    size: 5, autocomplete: 'off' })),
  h('label', { class: 'check' },
    h('input', { name: 'failed', type: 'checkbox', value: 'true', checked: Boolean(query.failed) }),
    text('events.failed')),
  h('button', { class: 'strong' }, text('search')));
}

/** The button that freezes the rows. */
function holding(data, page) {
  const waiting = data.held ? data.held.filter((row) => !data.rows.includes(row)).length : 0;
  return h('button', { type: 'button', 'aria-pressed': String(Boolean(data.held)),
    onclick: () => {
      if (data.held) data.rows = data.held;
      data.held = data.held ? null : [...data.rows];
      page.draw();
    } },
  data.held ? text('events.release', { n: waiting }) : text('events.hold'));
}

function rowsOf(data) {
  const columns = [[text('time'), 'short bare'], [text('event'), 'name'],
    [text('events.happened'), 'short'], [text('events.went')]];
  return table(text('events'), columns, data.rows.map((row) => ({
    key: keyOf(row),
    cells: [time(row.at), nameOf(row), codeOf(row), resultsOf(row)],
  })));
}

/** Its key, as a link to its page. */
function nameOf(row) {
  const id = row.event_id || row.request_id;
  if (!id) return row.event_key || h('span', { class: 'quiet' }, '–');
  return [h('a', { href: linkTo('events', id) }, row.event_key || id),
    h('span', { class: 'id' }, id.slice(0, 8))];
}

/** The code for EBaaS, or the log event. */
function codeOf(row) {
  if (row.what === 'request' || row.what === 'event') {
    return row.code ? h('span', { class: `code ${row.code === '000' ? 'good' : 'bad'}`,
      title: text('events.told') }, row.code) : text('told.gone');
  }
  const words = isKnown(`happening.${row.what}`) ? text(`happening.${row.what}`) : row.what;
  return BAD.has(row.what) ? h('b', { class: 'bad' }, words) : words;
}

/** The failed attempts, then the number of the others. */
function resultsOf(row) {
  if (row.what === 'unmatched') return text('no_route');
  if (row.what === 'dropped') return text('events.dropped', { n: row.count });
  if (row.deliveries) {
    const open = row.deliveries.filter((each) => each.state !== 'acknowledged');
    return (open.length ? open : row.deliveries).map((each, index) => [
      index ? text('semicolon') : '',
      targetLink(each.target), text('colon'), text(`delivery.${each.state}`)]);
  }
  if (row.target) {
    return [targetLink(row.target), text('colon'), row.reason ? resultOf(row) : wordsOf(row)];
  }
  const targets = row.targets ?? [];
  if (!targets.length) return wordsOf({ detail: row.error || row.detail });
  const failed = targets.filter((each) => each.reason && each.reason !== 'acknowledged');
  const fine = targets.length - failed.length;
  const names = targets.filter((each) => !failed.includes(each)).map((each) => each.target);
  return [
    failed.map((each, index) => [index ? h('br') : null, targetLink(each.target), text('colon'),
      resultOf(each)]),
    fine ? h('span', { class: 'quiet', title: names.join(text('comma')) },
      failed.length ? ' · ' : '',
      text('events.fine', { n: fine })) : null,
  ];
}

/** The searched places, and how far back they reach. */
function reach(found) {
  const places = found.looked_in.map(({ name, back_to: back }) =>
    (back ? text('events.back_to', { place: placeName(name), at: clock(back) })
      : placeName(name)));
  return [textNodes('events.looked', { places: places.join(text('comma')) }),
    found.skipped ? ` ${text('events.skipped', { n: found.skipped })}` : ''];
}

function placeName(name) {
  return isKnown(`place.${name}`) ? text(`place.${name}`) : name;
}

function nothing(followed, found) {
  if (followed) return text('events.none_yet');
  return [text('events.none'), ' ', found.looked_in.length ? null : text('events.nowhere')];
}
