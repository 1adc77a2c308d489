// Dead letters, and all else that is not settled: find them, see what an act would change, act.

import { act, ask } from '../api.js';
import { h } from '../elements.js';
import { ago, number } from '../figures.js';
import { linkTo, queryOf } from '../place.js';
import { table } from '../table.js';
import { reasonText, targetLink } from '../targets.js';
import { text, told } from '../telling.js';

const STATES = ['dead', 'queued', 'awaiting', 'superseded', 'acknowledged'];

/** What a person may do with a delivery that stands there. */
const VERBS = { dead: ['replay', 'discard'], queued: ['discard'], awaiting: ['discard'],
  superseded: ['restore'], acknowledged: [] };

/** What takes it back. */
const UNDO = { discard: 'restore' };

/** The whole of what the filters show, as the key of what is asked for all of it. */
const ALL = 'all';

const PAGE = 50;

export const dead = {
  title: (place) => (stateOf(place) === 'dead' ? text('dead') : text('deliveries')),

  async load(place, before) {
    const [first, { actions }] = await Promise.all([
      ask('deliveries', { ...filterOf(place), limit: PAGE }), ask('deliveries/actions')]);
    // Pages that were asked for stay, as they were then.
    const more = before?.more && before.next === first.next ? before.more : null;
    return { ...first, actions, more, asked: before?.asked ?? null };
  },

  hear: (data, kind) => kind === 'dead_letter' && 'load',

  view(data, place, page) {
    const all = filterOf(place);
    return h('div', null,
      h('h1', { tabindex: -1 }, dead.title(place)),
      counts(data.counts, place),
      filters(place, page),
      acts(ALL, stateOf(place), all, data, page, 'dead.all'),
      asking(ALL, data, page),
      list(data, place, page),
      h('h2', null, text('dead.actions')),
      actions(data.actions));
  },
};

function stateOf({ query }) {
  return STATES.includes(query.state) ? query.state : 'dead';
}

function filterOf(place) {
  const { target, match, event, older_than, newer_than, acknowledged_later } = place.query;
  const said = { target, match, event, older_than, newer_than, acknowledged_later };
  return { state: stateOf(place),
    ...Object.fromEntries(Object.entries(said).filter(([, value]) => value)) };
}

/** How many there are of each state at each target, each a link to them. */
function counts(found, place) {
  if (!found?.length) return null;
  return h('ul', { class: 'chips' }, found.map((each) => h('li', { 'data-key':
    `${each.target} ${each.state}` }, h('a', {
    class: each.state === 'dead' ? 'bad' : null,
    'aria-current': place.query.target === each.target && stateOf(place) === each.state ? 'true'
      : null,
    href: linkTo('dead', null,
      { target: each.target, state: each.state === 'dead' ? '' : each.state }),
  }, `${each.target}: `, text(`count.${each.state}`, { n: each.deliveries })))));
}

function filters(place, page) {
  const { query } = place;
  const field = (name, more) => h('input', { name, value: query[name] ?? '', autocomplete: 'off',
    spellcheck: 'false', ...more });
  const option = (name, value, words) =>
    h('option', { value, selected: (query[name] ?? '') === value }, words);
  return h('form', { class: 'filters', role: 'search', onsubmit: (event) => {
    event.preventDefault();
    page.go(linkTo('dead', null, queryOf(event.currentTarget)));
  } },
  h('label', null, text('delivery.state'), h('select', { name: 'state' },
    STATES.map((state) => h('option', { value: state === 'dead' ? '' : state,
      selected: stateOf(place) === state }, text(`delivery.${state}`))))),
  h('label', null, text('target'), field('target', { list: 'targets' })),
  h('label', { class: 'wide' }, text('dead.match'), field('match', { placeholder: 'a.gs.*',
    class: 'search' })),
  h('label', { class: 'wide' }, text('event.id'), field('event')),
  h('label', null, text('dead.newer_than'), field('newer_than', { placeholder: '3h', size: 5 })),
  h('label', null, text('dead.older_than'), field('older_than', { placeholder: '10m', size: 5 })),
  h('label', null, text('dead.later'), h('select', { name: 'acknowledged_later' },
    option('acknowledged_later', '', text('later.include')),
    option('acknowledged_later', 'exclude', text('later.exclude')),
    option('acknowledged_later', 'only', text('later.only')))),
  h('button', { class: 'strong' }, text('filter')));
}

/** The buttons of what may be done with a selection; each shows first what it would change. */
function acts(where, state, filter, data, page, words) {
  const verbs = VERBS[state].filter((verb) => page.may(verb === 'restore' ? 'discard' : verb));
  if (!verbs.length || (where === ALL && !data.deliveries.length)) return null;
  return h('div', { class: 'acts' }, verbs.map((verb) => h('button', {
    type: 'button', onclick: () => preview(verb, filter, where, data, page),
  }, text(words ? `${words}.${verb}` : `verb.${verb}`))));
}

/** A selection as the API takes it: each part a list. */
function selectionOf(filter) {
  const lists = ['target', 'state', 'match', 'event'].filter((name) => filter[name])
    .map((name) => [name, [filter[name]]]);
  return { ...filter, ...Object.fromEntries(lists) };
}

async function preview(verb, filter, where, data, page, undone) {
  data.asked = { verb, filter, where, undone, kept: data.asked?.kept };
  if (where !== ALL) {
    data.asked.kept ??= rows(data).map((entry, index) => ({ entry, index }))
      .find(({ entry }) => keyOf(entry) === where);
  } else {
    data.asked.kept = null;
  }
  await step(data, page, async (asked) => {
    asked.preview = await act(`deliveries/${verb}`, { ...selectionOf(filter), dry_run: true });
  });
}

/** Takes the token of the preview, and with it exactly that set. */
async function carryOut(data, page) {
  await step(data, page, async (asked) => {
    const done = { changed: 0, left: 0 };
    for (let more = true; more;) {
      const said = await act(`deliveries/${asked.verb}`, { token: asked.preview.token });
      done.changed += said.changed;
      done.left = said.left;
      more = said.more;
      asked.done = { ...done, more };
      page.draw();
    }
  });
  page.load();
}

async function step(data, page, does) {
  const { asked } = data;
  asked.busy = true;
  page.draw();
  try {
    await does(asked);
  } catch (error) {
    asked.error = error.message;
  }
  asked.busy = false;
  page.draw();
}

/** What was asked for there: what it would change, or what it has changed. */
function asking(where, data, page) {
  const { asked } = data;
  if (asked?.where !== where) return null;
  const dismiss = () => { data.asked = null; page.load(); };
  return h('div', { class: 'panel', role: 'status' },
    asked.error ? [h('p', { class: 'bad' }, asked.error), button('dismiss', dismiss)]
      : asked.done ? doneTold(asked, data, page, dismiss)
        : asked.preview ? previewTold(asked, data, page, dismiss)
          : h('p', { class: 'quiet' }, text('looking')));
}

function previewTold({ verb, preview: would, busy, undone }, data, page, dismiss) {
  const n = would.number;
  return [
    h('p', null, h('b', null, text(`would.${verb}`, { n }))),
    would.counts.length > 1 ? h('p', { class: 'quiet' }, would.counts.map((each) =>
      `${each.target}: ${number(each.deliveries)}`).join(text('comma'))) : null,
    undone !== undefined && undone !== n ? h('p', null, text('dead.not_what_was_undone', { n:
      undone })) : null,
    would.left_out ? h('p', null, text('dead.left_out', { n: would.left_out })) : null,
    would.why.map((why) => h('p', { class: 'quiet' }, why)),
    n && verb === 'replay' ? h('p', { class: 'quiet' }, text('dead.replay_means')) : null,
    n && verb === 'discard' ? h('p', { class: 'quiet' }, text('dead.discard_means')) : null,
    h('div', { class: 'acts' },
      n ? button(`do.${verb}`, () => carryOut(data, page), { n }, busy) : null,
      button(n ? 'cancel' : 'dismiss', dismiss)),
  ];
}

function doneTold({ verb, done, filter, where }, data, page, dismiss) {
  const undo = UNDO[verb];
  return [
    h('p', null, h('b', null, text(`did.${verb}`, { n: done.changed })), ' ',
      done.more ? text('dead.going_on')
        : done.left ? text('dead.left', { n: done.left }) : null),
    h('div', { class: 'acts' },
      undo && done.changed && !done.more
        ? button('undo', () => preview(undo, { ...filter, state: 'superseded' }, where, data, page,
          done.changed)) : null,
      button('dismiss', dismiss)),
  ];
}

function button(words, onclick, values, disabled) {
  return h('button', { type: 'button', onclick, disabled,
    class: words.startsWith('do.') ? 'strong' : null }, text(words, values));
}

function rows(data) {
  return [...data.deliveries, ...(data.more?.deliveries ?? [])];
}

function keyOf(entry) {
  return `${entry.event_id} ${entry.target}`;
}

function list(data, place, page) {
  const shown = rows(data);
  const kept = data.asked?.kept;
  // What was acted on stays where it was until what happened to it has been read.
  if (kept && !shown.some((entry) => keyOf(entry) === data.asked.where)) {
    shown.splice(kept.index, 0, { ...kept.entry, gone: true });
  }
  if (!shown.length) return h('p', { class: 'quiet' }, text(`none.${stateOf(place)}`));
  const columns = [[text('event')], [text('target')], [text('reason')],
    [text('delivery.retries'), 'number'], [text('dead.came'), 'number'], ['', 'acts']];
  const next = data.more ? data.more.next : data.next;
  return [
    table(dead.title(place), columns, shown.flatMap((entry) => {
      const panel = asking(keyOf(entry), data, page);
      return [row(entry, data, page),
        ...(panel ? [{ key: `asked ${keyOf(entry)}`, wide: panel }] : [])];
    })),
    next ? h('p', null, h('button', { type: 'button',
      onclick: () => addPage(data, place, next).then(page.draw, page.failed) }, text('more'))) : null,
  ];
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
        entry.due_at ? h('span', { class: 'note' }, told('delivery.due', { age: ago(entry.due_at) }))
          : null,
        entry.acknowledged_later_at ? h('span', { class: 'note' }, told('delivery.later',
          { age: ago(entry.acknowledged_later_at) })) : null,
        entry.action ? h('span', { class: 'note' }, told('delivery.acted', {
          verb: text(`done.${entry.action.verb}`), who: entry.action.who,
          age: ago(entry.action.at) })) : null],
      number(entry.retries),
      ago(entry.first_at),
      entry.gone ? null : acts(keyOf(entry), entry.state,
        { state: entry.state, event: entry.event_id, target: entry.target }, data, page),
    ],
  };
}

function actions(found) {
  if (!found.length) return h('p', { class: 'quiet' }, text('dead.no_actions'));
  const columns = [[text('who')], [text('dead.did')], [text('deliveries'), 'number'],
    [text('dead.by')], [text('time'), 'number']];
  return table(text('dead.actions'), columns, found.map((each) => ({
    key: each.action_id,
    cells: [each.who, text(`done.${each.verb}`), number(each.deliveries), h('code', null, each.what),
      ago(each.at)],
  })));
}
