// Dead letters and other deliveries: find them, preview an action, act.

import { ALL, acts, asking, keyOf } from '../acting.js';
import { ask, now } from '../api.js';
import { h } from '../elements.js';
import { ago, number } from '../figures.js';
import { linkTo, queryOf } from '../place.js';
import { list, table } from '../table.js';
import { reasonText, targetLink } from '../targets.js';
import { text, textNodes } from '../language.js';

const STATES = ['dead', 'queued', 'awaiting', 'superseded', 'acknowledged'];

/** Filters behind "More filters". */
const FURTHER = ['event', 'newer_than', 'older_than', 'acknowledged_later'];

const PAGE = 50;

export const dead = {
  title: (place) => (stateOf(place) === 'dead' ? text('dead') : text('deliveries')),

  async load(place, before) {
    const [first, { counts: all }, { actions }] = await Promise.all([
      ask('deliveries', { ...filterOf(place), limit: PAGE }),
      ask('deliveries', { limit: 1 }), ask('deliveries/actions')]);
    // Further pages stay as they were loaded.
    const more = before?.more && before.next === first.next ? before.more : null;
    return { ...first, all, actions, more, asked: before?.asked ?? null };
  },

  /** Counting is expensive. */
  seldom: true,
  receive: (data, kind) => kind === 'dead_letter' && 'load',

  view(data, place, page) {
    const all = filterOf(place);
    return h('div', null,
      h('h1', { tabindex: -1 }, dead.title(place)),
      counts(data.all, place),
      filters(place, page),
      data.deliveries.length ? acts(ALL, all, data, page) : null,
      asking(ALL, data, page),
      page.isReadOnly() ? h('p', { class: 'quiet' }, text('read_only')) : null,
      rowsView(data, place, page),
      h('h2', null, text('dead.actions')),
      actions(data.actions));
  },
};

function stateOf({ query }) {
  return STATES.includes(query.state) ? query.state : 'dead';
}

function filterOf(place) {
  const { target, match, event, older_than, newer_than, acknowledged_later } = place.query;
  const given = { target, match, event, older_than, newer_than, acknowledged_later };
  return { state: stateOf(place),
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value)) };
}

/** The number of deliveries by target and state, as links. */
function counts(found, place) {
  if (!found?.length) return null;
  return list('chips', found.map((each) => h('li', { 'data-key':
    `${each.target} ${each.state}` }, h('a', {
    class: each.state === 'dead' ? 'bad' : null,
    'aria-current': place.query.target === each.target && stateOf(place) === each.state ? 'true'
      : null,
    href: linkTo('dead', null,
      { target: each.target, state: each.state === 'dead' ? '' : each.state }),
  }, each.target, text('colon'), text(`count.${each.state}`, { n: each.deliveries })))));
}

function filters(place, page) {
  const { query } = place;
  const field = (name, more) => h('input', { name, value: query[name] ?? '', autocomplete: 'off',
    spellcheck: 'false', ...more });
  return h('form', { role: 'search', onsubmit: (event) => {
    event.preventDefault();
    page.go(linkTo('dead', null, queryOf(event.currentTarget)));
  } },
  h('div', { class: 'filters' },
    h('label', null, text('delivery.state'), h('select', { name: 'state' },
      STATES.map((state) => h('option', { value: state === 'dead' ? '' : state,
        selected: stateOf(place) === state }, text(`delivery.${state}`))))),
    h('label', null, text('target'), field('target', { list: 'targets' })),
    h('label', { class: 'wide' }, text('dead.match'),
      field('match', { placeholder: 'a.gs.*', class: 'search' })),
    h('button', { class: 'strong' }, text('filter'))),
  h('details', { open: FURTHER.some((name) => query[name]) },
    h('summary', null, text('dead.more')),
    h('div', { class: 'filters' },
      h('label', { class: 'wide' }, text('event.id'), field('event')),
      h('label', null, text('dead.newer_than'), field('newer_than', { placeholder: '3h' })),
      h('label', null, text('dead.older_than'), field('older_than', { placeholder: '10m' })),
      h('label', null, text('dead.later'), h('select', { name: 'acknowledged_later' },
        ['include', 'exclude', 'only'].map((each) => h('option', {
          value: each === 'include' ? '' : each, selected: query.acknowledged_later === each,
        }, text(`later.${each}`))))))));
}

function rows(data) {
  return [...data.deliveries, ...(data.more?.deliveries ?? [])];
}

function rowsView(data, place, page) {
  const shown = withAsked(rows(data), data.asked);
  if (!shown.length) return h('p', { class: 'quiet' }, text(`none.${stateOf(place)}`));
  const columns = [[text('event'), 'name'], [text('target')], [text('reason')],
    [text('delivery.retries'), 'number'], [text('dead.came'), 'number'],
    [text('dead.does'), 'does']];
  const next = data.more ? data.more.next : data.next;
  return [
    table(dead.title(place), columns, shown.flatMap((entry) => {
      const wide = asking(keyOf(entry), data, page);
      return [row(entry, data, page), ...(wide ? [{ key: `asked ${keyOf(entry)}`, wide }] : [])];
    })),
    next ? h('p', null, h('button', { type: 'button', onclick: () => {
      addPage(data, place, next).then(page.draw, page.failed);
    } }, text('more'))) : null,
  ];
}

/** Keeps the row of an action in its place until its result is dismissed. */
function withAsked(shown, asked) {
  if (!asked || asked.where === ALL) return shown;
  const index = shown.findIndex((entry) => keyOf(entry) === asked.where);
  if (index >= 0) asked.kept = { entry: shown[index], index };
  else if (asked.kept) shown.splice(asked.kept.index, 0, { ...asked.kept.entry, gone: true });
  return shown;
}

async function addPage(data, place, after) {
  const found = await ask('deliveries', { ...filterOf(place), limit: PAGE, after });
  const before = data.more?.deliveries ?? [];
  data.more = { next: found.next, deliveries: [...before, ...found.deliveries] };
}

function row(entry, data, page) {
  return {
    key: keyOf(entry),
    kind: entry.gone ? 'over' : null,
    cells: [
      [h('a', { href: linkTo('events', entry.event_id) }, entry.event_key),
        h('span', { class: 'id' }, entry.event_id.slice(0, 8))],
      targetLink(entry.target),
      [reasonText(entry.reason),
        notes(entry).map((note) => h('span', { class: 'note' }, note))],
      number(entry.retries),
      ago(entry.first_at),
      entry.gone ? null : acts(keyOf(entry), { state: entry.state, event: entry.event_id,
        target: entry.target }, data, page),
    ],
  };
}

/** Further facts about a delivery. */
function notes({ due_at: due, in_flight: inFlight, acknowledged_later_at: later, action }) {
  return [
    due && textNodes(inFlight ? 'delivery.in_flight'
      : Date.parse(due) > now() ? 'delivery.due' : 'delivery.overdue', { age: ago(due) }),
    later && textNodes('delivery.later', { age: ago(later) }),
    action && textNodes('delivery.acted', {
      verb: text(`done.${action.verb}`), who: action.who, age: ago(action.at) }),
  ].filter(Boolean);
}

function actions(found) {
  if (!found.length) return h('p', { class: 'quiet' }, text('dead.no_actions'));
  const columns = [[text('who'), 'name'], [text('dead.did')], [text('deliveries'), 'number'],
    [text('dead.by')], [text('time'), 'number']];
  return table(text('dead.actions'), columns, found.map((each) => ({
    key: each.action_id,
    cells: [each.who, text(`done.${each.verb}`), number(each.deliveries),
      h('code', null, each.what), ago(each.at)],
  })));
}
