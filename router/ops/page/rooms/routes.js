// Routes: the table in force, a test of an event, and the last reloads.

import { act, ask } from '../api.js';
import { h } from '../elements.js';
import { ago, number } from '../figures.js';
import { linkTo, queryOf } from '../place.js';
import { table } from '../table.js';
import { targetLink } from '../targets.js';
import { problemText, text, textNodes } from '../language.js';

/** How many routes are shown: a table can have 100,000. */
const SHOWN = 200;

export const routes = {
  title: () => text('routes'),

  /** There may be many: they are loaded again only after a reload. */
  async load({ query }, before) {
    const { configuration } = await ask('status');
    const mark = configuration && `${configuration.hash} ${configuration.last_reload?.at}`;
    if (mark && before?.mark === mark) return before;
    const [found, explained] = await Promise.all([ask('routes'),
      query.key ? explain(query.key) : null]);
    return { ...found, explained, mark };
  },

  receive: (data, kind) => kind === 'reload' && 'load',

  view(data, place, page) {
    return h('div', null,
      h('h1', { tabindex: -1 }, text('routes')),
      h('p', { class: 'quiet' }, textNodes('routes.since', { n: data.routes.length,
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

/** The patterns of a route by field, then those of its exceptions. */
export function patterns(route) {
  return [[route.match, ''], [route.except, text('route.except')]].flatMap(([rule, word]) =>
    Object.entries(rule).map(([field, each]) => h('div', null,
      h('span', { class: 'quiet' }, `${word}${field} `),
      each.map((pattern, index) => [index ? text('or') : '', h('code', null, pattern)]))));
}

/** Explains a key, or an event as JSON. */
async function explain(input) {
  try {
    if (!input.startsWith('{')) return await act('explain', { key: input });
    return await act('explain', { event: JSON.parse(input) });
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

function explanation(result) {
  if (result.error) {
    return h('div', { class: 'panel bad', role: 'status' }, h('p', null, result.error));
  }
  if (result.refused) {
    return h('div', { class: 'panel', role: 'status' }, h('p', { class: 'bad' },
      text('explain.refused', { code: result.refused.code, msg: result.refused.msg })),
    h('p', { class: 'quiet' }, result.refused.why));
  }
  const matched = result.routes.filter((route) => route.matched);
  const others = result.routes.filter((route) => !route.matched);
  return h('div', { class: 'panel', role: 'status' },
    result.unmatched ? h('p', { class: 'bad' }, text(`explain.unmatched.${result.unmatched}`))
      : result.targets.length
        ? h('ul', null, ['required', 'optional'].flatMap((as) => result.targets
          .filter((target) => as === asOf(target)).map((target) => planned(target, as))))
        : h('p', null, text('explain.nothing')),
    matched.length ? [h('h3', null, text('explain.matched', { n: matched.length })),
      h('ul', null, matched.map(matchView))] : null,
    others.length ? [h('h3', null, text('explain.nearest')),
      h('ul', null, others.map(matchView))] : null);
}

/** A target that one route requires is required. */
function asOf(target) {
  return target.required_by.length ? 'required' : 'optional';
}

function planned(target, as) {
  return h('li', null, targetLink(target.name), ' ', h('b', null, text(`as.${as}`)), ' ',
    h('span', { class: 'quiet' },
      text('explain.by', { routes: target[`${as}_by`].join(text('comma')) })),
    target.paused ? h('span', { class: 'note' }, text('state.paused')) : null);
}

function matchView(route) {
  return h('li', null, h('b', null, route.name),
    h('span', { class: 'quiet' }, ` ${place(route)}`),
    route.except.map((field) => h('div', null,
      h('span', { class: 'quiet' }, `${field.field} `), h('code', null, field.value || '–'), ' ',
      h('span', { class: 'bad' },
        textNodes('explain.excepted', { pattern: h('code', null, field.pattern) })))),
    route.fields.map((field) => h('div', null,
      h('span', { class: 'quiet' }, `${field.field} `), h('code', null, field.value || '–'), ' ',
      field.pattern !== null
        ? textNodes('explain.matches', { pattern: h('code', null, field.pattern) })
        : h('span', { class: 'bad' }, textNodes('explain.stops', { patterns: field.patterns.map(
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

/** The routes with the word in their name, patterns or targets. */
function inForce(all, word) {
  const fits = ({ name, match, except, required, optional }) =>
    JSON.stringify([name, match, except, required, optional])
      .toLowerCase().includes(JSON.stringify(word).slice(1, -1).toLowerCase());
  const found = all.filter(fits);
  const columns = [[text('route'), 'name'], [text('route.match')], [text('route.required')],
    [text('route.optional')], [text('routes.place')]];
  const names = (targets) => targets.map((name, index) => [
    index ? text('comma') : '', targetLink(name)]);
  if (!found.length) return h('p', { class: 'quiet' }, text('routes.none'));
  return [
    table(text('routes.in_force'), columns, found.slice(0, SHOWN).map((route) => ({
      key: route.name,
      cells: [route.name, patterns(route), names(route.required), names(route.optional),
        h('code', null, place(route))],
    }))),
    found.length > SHOWN ? h('p', { class: 'quiet' }, text('routes.first', { n: SHOWN,
      all: number(found.length) })) : null,
  ];
}

/** The problems of the last file, if it was refused. */
function refused(last) {
  if (last?.result !== 'refused') return null;
  return h('div', { class: 'panel bad' },
    h('p', null, h('b', null, textNodes('routes.refused', { age: ago(last.at) }))),
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

/** Problems in the loader's words, with their lines. */
function problems(result) {
  return h('ul', { class: 'problems' }, result.map((problem) => h('li', null, problem)));
}
