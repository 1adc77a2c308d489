// Routes: the table in force, what would happen to a key, and what the last reloads changed.

import { act, ask } from '../api.js';
import { h } from '../elements.js';
import { ago, number } from '../figures.js';
import { linkTo, queryOf } from '../place.js';
import { table } from '../table.js';
import { targetLink } from '../targets.js';
import { problemText, text, told } from '../telling.js';

/** A table can have a hundred thousand. */
const SHOWN = 200;

export const routes = {
  title: () => text('routes'),

  /** There may be many: they are asked for anew only once others are in force, or were refused. */
  async load({ query }, before) {
    const { configuration } = await ask('status');
    const mark = configuration && `${configuration.hash} ${configuration.last_reload?.at}`;
    if (mark && before?.mark === mark) return before;
    const [found, explained] = await Promise.all([ask('routes'),
      query.key ? explain(query.key) : null]);
    return { ...found, explained, mark };
  },

  hear: (data, kind) => kind === 'reload' && 'load',

  view(data, place, page) {
    return h('div', null,
      h('h1', { tabindex: -1 }, text('routes')),
      h('p', { class: 'quiet' }, told('routes.since', { n: data.routes.length,
        hash: h('code', null, data.hash.slice(0, 12)), age: ago(data.since) }), ' ',
      text(`unmatched.${data.unmatched}`)),
      refused(data.reloads[0]),
      h('h2', null, text('explain')),
      explainForm(place, page),
      data.explained ? explanation(data.explained) : null,
      h('h2', null, text('routes.in_force')),
      findForm(place, page),
      inForce(data.routes, place.query.find ?? ''),
      page.isTeams() ? null : [h('h2', null, text('routes.reloads')), reloads(data.reloads)]);
  },
};

/** Each field's patterns. */
export function patterns(match) {
  return Object.entries(match).map(([field, each]) => h('div', null,
    h('span', { class: 'quiet' }, `${field} `),
    each.map((pattern, index) => [index ? text('or') : '', h('code', null, pattern)])));
}

/** What would happen to a key, or to an event as JSON. */
async function explain(said) {
  try {
    if (!said.startsWith('{')) return await act('explain', { key: said });
    return await act('explain', { event: JSON.parse(said) });
  } catch (error) {
    if (error instanceof SyntaxError) return { error: text('explain.not_json') };
    if (error.status) return { error: problemText(error) };
    throw error;
  }
}

function explainForm({ query }, page) {
  return h('form', { class: 'filters', onsubmit: (event) => {
    event.preventDefault();
    page.go(linkTo('routes', null, { find: query.find, ...queryOf(event.currentTarget) }));
  } },
  h('label', { class: 'wide' }, text('explain.what'),
    h('input', { name: 'key', value: query.key ?? '', class: 'search', autocomplete: 'off',
      spellcheck: 'false', placeholder: 'a.gs.cert.1' })),
  h('button', { class: 'strong' }, text('explain.do')));
}

function explanation(said) {
  if (said.error) return h('div', { class: 'panel bad', role: 'status' }, h('p', null, said.error));
  if (said.refused) {
    return h('div', { class: 'panel', role: 'status' }, h('p', { class: 'bad' },
      text('explain.refused', { code: said.refused.code, msg: said.refused.msg })),
    h('p', { class: 'quiet' }, said.refused.why));
  }
  const matched = said.routes.filter((route) => route.matched);
  const others = said.routes.filter((route) => !route.matched);
  return h('div', { class: 'panel', role: 'status' },
    said.unmatched ? h('p', { class: 'bad' }, text(`explain.unmatched.${said.unmatched}`))
      : said.targets.length
        ? h('ul', null, ['required', 'optional'].flatMap((as) => said.targets
          .filter((target) => as === asOf(target)).map((target) => planned(target, as))))
        : h('p', null, text('explain.nothing')),
    matched.length ? [h('h3', null, text('explain.matched', { n: matched.length })),
      h('ul', null, matched.map(matchTold))] : null,
    others.length ? [h('h3', null, text('explain.nearest')),
      h('ul', null, others.map(matchTold))] : null);
}

/** Required by one route, it is required. */
function asOf(target) {
  return target.required_by.length ? 'required' : 'optional';
}

function planned(target, as) {
  return h('li', null, targetLink(target.name), ' ', h('b', null, text(`as.${as}`)), ' ',
    h('span', { class: 'quiet' },
      text('explain.by', { routes: target[`${as}_by`].join(text('comma')) })),
    target.paused ? h('span', { class: 'note' }, text('state.paused')) : null);
}

function matchTold(route) {
  return h('li', null, h('b', null, route.name),
    h('span', { class: 'quiet' }, ` ${place(route)}`),
    route.fields.map((field) => h('div', null,
      h('span', { class: 'quiet' }, `${field.field} `), h('code', null, field.value || '–'), ' ',
      field.pattern !== null
        ? told('explain.matches', { pattern: h('code', null, field.pattern) })
        : h('span', { class: 'bad' }, told('explain.stops', { patterns: field.patterns.map(
          (pattern, index) => [index ? text('or') : '', h('code', null, pattern)]) })))));
}

function place(route) {
  return `${route.file}:${route.line}`;
}

function findForm({ query }, page) {
  return h('form', { class: 'filters', role: 'search', onsubmit: (event) => event.preventDefault(),
    oninput: (event) => page.replace(linkTo('routes', null,
      { key: query.key, ...queryOf(event.currentTarget) })) },
  h('label', { class: 'wide' }, text('routes.find'),
    h('input', { name: 'find', type: 'search', value: query.find ?? '', autocomplete: 'off',
      spellcheck: 'false' })));
}

/** Those in whose name, patterns or targets the word is. */
function inForce(all, word) {
  const fits = (route) => JSON.stringify([route.name, route.match, route.required, route.optional])
    .toLowerCase().includes(JSON.stringify(word).slice(1, -1).toLowerCase());
  const found = all.filter(fits);
  const columns = [[text('route'), 'name'], [text('route.match')], [text('route.required')],
    [text('route.optional')], [text('routes.place')]];
  const names = (targets) => targets.map((name, index) => [index ? text('comma') : '', targetLink(name)]);
  if (!found.length) return h('p', { class: 'quiet' }, text('routes.none'));
  return [
    table(text('routes.in_force'), columns, found.slice(0, SHOWN).map((route) => ({
      key: route.name,
      cells: [route.name, patterns(route.match), names(route.required), names(route.optional),
        h('code', null, place(route))],
    }))),
    found.length > SHOWN ? h('p', { class: 'quiet' }, text('routes.first', { n: SHOWN,
      all: number(found.length) })) : null,
  ];
}

/** A file that was refused changes nothing, and stays wrong until somebody mends it. */
function refused(last) {
  if (last?.result !== 'refused') return null;
  return h('div', { class: 'panel bad' },
    h('p', null, h('b', null, told('routes.refused', { age: ago(last.at) }))),
    problems(last.problems));
}

function reloads(all) {
  if (!all.length) return h('p', { class: 'quiet' }, text('routes.no_reloads'));
  return h('ol', { class: 'steps' }, all.map((each) => h('li',
    { class: each.result === 'taken' ? 'good' : 'bad' },
    ago(each.at),
    h('div', null,
      h('p', null, text(`reload.${each.result}`), ' ', h('code', null, each.hash?.slice(0, 12))),
      each.result === 'taken'
        ? each.changes.length ? h('ul', null, each.changes.map((change) => h('li', null, change)))
          : h('p', { class: 'quiet' }, text('reload.nothing'))
        : problems(each.problems)))));
}

/** In the loader's words, each with its line. */
function problems(said) {
  return h('ul', { class: 'problems' }, said.map((problem) => h('li', null, problem)));
}
