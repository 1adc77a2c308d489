// Dead letters and other deliveries: find them, preview an action, act.

import './words.js';
import { useActing } from '../acting.js';
import { ask, now } from '../api.js';
import { linkTo, number, text, textNodes } from '../logic.js';
import { Long, Room, ago, go, moreLink, queryOf, quiet, reasonText, session, table, targetLink,
  useLoad } from '../parts.js';
import { html } from '../vendor/preact.js';
import { WORDS } from '../words.js';

const STATES = ['dead', 'queued', 'awaiting', 'superseded', 'acknowledged'];

/** The filters of the API that are in the place. */
const FILTERS = ['target', 'reason', 'match', 'event', 'newer_than', 'older_than'];

const SORTS = ['newest', 'oldest', 'target'];

const REASONS = Object.keys(WORDS).filter((key) => /^reason\.(?!status_is)/.test(key))
  .map((key) => key.slice('reason.'.length));

/** How many more deliveries "More" requests, and the limit of the API. */
const PAGE = 50;
const MOST = 500;

/** Counting is expensive. */
const SELDOM = 30_000;

export default function Dead({ place: { query } }) {
  const state = STATES.includes(query.state) ? query.state : 'dead';
  const filter = { state, ...Object.fromEntries(FILTERS.filter((name) => query[name])
    .map((name) => [name, query[name]])) };
  const title = text(state === 'dead' ? 'dead' : 'deliveries');
  const loaded = useLoad(async () => {
    const [page, { counts: all }, { actions }] = await Promise.all([
      ask('deliveries', { ...filter, sort: query.sort, limit: query.limit || PAGE }),
      ask('deliveries', { ...filter, state: null, reason: null, limit: 1 }),
      ask('deliveries/actions')]);
    return { ...page, all, actions };
  }, query, SELDOM);
  const acting = useActing(loaded);
  return html`<${Room} title=${title} loaded=${loaded}
    receive=${(kind) => kind === 'dead_letter' && loaded.soon()}
    head=${html`<${Filters} key=${`${location.hash} ${session.visit}`} query=${query}
      state=${state} />`}>
    ${({ deliveries, counts, groups, next, all, actions }) => html`
      ${states(all, query, state)}
      ${session.you?.tokens === false && quiet(text('read_only'))}
      ${groups.length > 1 && html`<h2>${text('dead.groups')}</h2>
        ${groupsView(groups, query, filter, acting)}
        <h2>${title}</h2>`}
      ${deliveries.length ? [acting.buttons(filter), rows(title, deliveries, acting)]
        : quiet(text('dead.none'))}
      ${next && quiet(text('routes.first', { n: deliveries.length, all: sum(counts) }))}
      ${next && moreLink('dead', query, PAGE, MOST)}
      ${acting.dialog}
      <h2>${text('dead.actions')}</h2>
      ${actionsView(actions)}`}
  <//>`;
}

const sum = (counts) => counts.reduce((total, each) => total + each.deliveries, 0);

/** The number of deliveries in each state, as links. */
function states(all, query, state) {
  const found = STATES.map((each) => [each, sum(all.filter((count) => count.state === each))]);
  return html`<ul class="chips">${found.filter(([, n]) => n).map(([each, n]) => html`
    <li key=${each}><a class=${each === 'dead' ? 'bad' : null}
      aria-current=${state === each ? 'true' : null}
      href=${linkTo('dead', null, { ...query, state: each, reason: '', limit: '' })}>
      ${text(`count.${each}`, { n })}</a></li>`)}</ul>`;
}

/** The deliveries by target and reason, with the receiver's last words. */
function groupsView(groups, query, filter, acting) {
  const columns = [[text('target'), 'name'], [text('reason')], [text('deliveries'), 'number'],
    [text('dead.newest'), 'number'], [text('dead.oldest'), 'number'], [text('dead.does'), 'does']];
  return html`<${Long} items=${groups}>${(shown) => table(text('dead.groups'), columns, shown.map(
    ({ target, reason, deliveries, newest_at: newest, oldest_at: oldest, example }) => ({
      key: `${target} ${reason}`,
      cells: [
        targetLink(target),
        [reason ? html`<a href=${linkTo('dead', null, { ...query, target, reason, limit: '' })}>
          ${reasonText(reason)}</a>` : '–', example.said && html` <q>${example.said}</q>`],
        number(deliveries),
        ago(newest),
        ago(oldest),
        reason && acting.buttons({ ...filter, target, reason },
          `${target}${text('colon')}${reasonText(reason)}`),
      ],
    })))}<//>`;
}

function Filters({ query, state }) {
  const field = (name, label, more) => html`<label>${text(label)}
    <input name=${name} defaultValue=${query[name] ?? ''} autocomplete="off" spellcheck=${false}
      placeholder=${more?.example} list=${more?.list} /></label>`;
  return html`<form class="filters" onSubmit=${(event) => {
    event.preventDefault();
    go(linkTo('dead', null, queryOf(event.currentTarget)));
  }}>
    <label>${text('target.state')}<select name="state">${STATES.map((each) => html`
      <option value=${each === 'dead' ? '' : each} selected=${state === each}>
        ${text(`delivery.${each}`)}</option>`)}</select></label>
    ${field('target', 'target', { list: 'targets' })}
    <label>${text('reason')}<select name="reason"><option value="">${text('any')}</option>
      ${REASONS.map((each) => html`<option value=${each} selected=${query.reason === each}>
        ${reasonText(each)}</option>`)}</select></label>
    ${field('match', 'dead.match', { example: 'a.gs.*' })}
    ${field('event', 'event.id')}
    ${field('newer_than', 'dead.newer_than', { example: '3h' })}
    ${field('older_than', 'dead.older_than', { example: '10m' })}
    <label>${text('dead.sort')}<select name="sort">${SORTS.map((each) => html`
      <option value=${each === 'newest' ? '' : each} selected=${query.sort === each}>
        ${text(`sort.${each}`)}</option>`)}</select></label>
    <button class="strong">${text('filter')}</button></form>`;
}

function rows(title, deliveries, acting) {
  const columns = [[text('event'), 'name'], [text('target')], [text('reason')],
    [text('delivery.retries'), 'number'], [text('dead.came'), 'number'],
    [text('dead.does'), 'does']];
  return table(title, columns, deliveries.map((entry) => {
    const { event_id: id, event_key: key, target, state } = entry;
    return { key: `${id} ${target}`, cells: [
      [html`<a href=${linkTo('events', id)}>${key}</a>`,
        html`<span class="id">${id.slice(0, 8)}</span>`],
      targetLink(target),
      [reasonText(entry.reason), entry.said && html` <q>${entry.said}</q>`,
        notes(entry).map((note) => html`<span class="note">${note}</span>`)],
      number(entry.retries),
      ago(entry.first_at),
      acting.buttons({ state, event: id, target }, `${key} ${id.slice(0, 8)} ${target}`),
    ] };
  }));
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

function actionsView(found) {
  if (!found.length) return quiet(text('dead.no_actions'));
  const columns = [[text('who'), 'name'], [text('dead.does')], [text('deliveries'), 'number'],
    [text('dead.by')], [text('time'), 'number']];
  return table(text('dead.actions'), columns, found.map((each) => ({
    key: each.action_id,
    cells: [each.who, text(`done.${each.verb}`), number(each.deliveries),
      html`<code>${each.what}</code>`, ago(each.at)],
  })));
}
