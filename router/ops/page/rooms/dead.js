// Dead letters and other deliveries: find them, preview an action, act.

import './words.js';
import { useActing } from '../acting.js';
import { ask, now } from '../api.js';
import { linkTo, number, text, textNodes } from '../logic.js';
import { Long, Room, ago, deliveriesLink, go, moreLink, queryOf, quiet, reasonText, session, table,
  targetLink, useLoad } from '../parts.js';
import { html } from '../vendor/preact.js';

const STATES = ['dead', 'queued', 'awaiting', 'superseded', 'acknowledged'];

/** The filters of the API that are in the place. */
const FILTERS = ['target', 'match', 'event', 'newer_than', 'older_than'];

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
      ask('deliveries', { ...filter, limit: query.limit || PAGE }),
      ask('deliveries', { limit: 1 }), ask('deliveries/actions')]);
    return { ...page, all, actions };
  }, query, SELDOM);
  const acting = useActing(loaded);
  return html`<${Room} title=${title} loaded=${loaded}
    receive=${(kind) => kind === 'dead_letter' && loaded.soon()}
    head=${html`<${Filters} key=${`${location.hash} ${session.visit}`} query=${query}
      state=${state} />`}>
    ${({ deliveries, next, all, actions }) => html`
      ${counts(all, query, state)}
      ${session.you?.tokens === false && quiet(text('read_only'))}
      ${deliveries.length ? [acting.buttons(filter), rows(title, deliveries, acting)]
        : quiet(text('dead.none'))}
      ${next && moreLink('dead', query, PAGE, MOST)}
      ${acting.dialog}
      <h2>${text('dead.actions')}</h2>
      ${actionsView(actions)}`}
  <//>`;
}

/** The number of deliveries by target and state, as links. */
function counts(all, query, state) {
  return html`<${Long} items=${all}>${(shown) => html`<ul class="chips">${shown.map((each) => html`
    <li key=${`${each.target} ${each.state}`}><a class=${each.state === 'dead' ? 'bad' : null}
      aria-current=${query.target === each.target && state === each.state ? 'true' : null}
      href=${deliveriesLink(each.target, each.state)}>
      ${each.target}${text('colon')}${text(`count.${each.state}`, { n: each.deliveries })}
    </a></li>`)}</ul>`}<//>`;
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
    ${field('match', 'dead.match', { example: 'a.gs.*' })}
    ${field('event', 'event.id')}
    ${field('newer_than', 'dead.newer_than', { example: '3h' })}
    ${field('older_than', 'dead.older_than', { example: '10m' })}
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
