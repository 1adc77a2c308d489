// Refused callbacks: by fault and key, and a replay of those that would be accepted now.

import './words.js';
import { ask } from '../api.js';
import { faultText, linkTo, number, text } from '../logic.js';
import { Long, Room, ago, go, isTeams, may, queryOf, quiet, session, table, time,
  useLoad } from '../parts.js';
import { Replaying } from '../replaying.js';
import { html, useState } from '../vendor/preact.js';

/** A look through the archive is expensive. */
const ONCE = 86_400_000;

const NO_ROUTE = 'no route matches';

export default function Refused({ place: { query } }) {
  const { match, since } = query;
  const loaded = useLoad(() => ask('refused', { match, since }), query, ONCE);
  return html`<${Room} title=${text('refused')} loaded=${loaded}
    head=${html`<${Filters} key=${`${location.hash} ${session.visit}`} query=${query} />`}>
    ${(found) => html`
      ${found.callbacks > 0 && html`<p>${text('refused.count',
        { n: found.callbacks, requests: found.requests })}</p>`}
      ${others(found)}
      ${found.callbacks > 0 && may('replay') && !isTeams() && html`<${Replay} query=${query}
        loaded=${loaded} />`}
      ${found.faults.length ? faults(found.faults) : quiet(text('refused.none'))}
      ${found.more && quiet(text('events.narrow'))}`}
  <//>`;
}

/** Callbacks that are not listed. */
function others({ accepted, unknown, damage }) {
  return [accepted && text('refused.accepted', { n: accepted }),
    unknown && text('refused.unknown', { n: unknown }),
    damage && text('refused.damage', { damage })].filter(Boolean).map(quiet);
}

function Filters({ query }) {
  return html`<form class="filters" onSubmit=${(event) => {
    event.preventDefault();
    go(linkTo('refused', null, queryOf(event.currentTarget)));
  }}>
    <label>${text('dead.match')}<input name="match" defaultValue=${query.match ?? ''}
      placeholder="a.gs.*" autocomplete="off" spellcheck=${false} /></label>
    <label>${text('dead.newer_than')}<input name="since" defaultValue=${query.since ?? ''}
      placeholder="3h" autocomplete="off" spellcheck=${false} /></label>
    <button class="strong">${text('filter')}</button></form>`;
}

function faults(all) {
  const columns = [[text('event'), 'name'], [text('refused.why')], [text('events.code'), 'short'],
    [text('refused.callbacks'), 'number'], [text('refused.requests'), 'number'],
    [text('refused.last'), 'number'], [text('refused.until'), 'number'],
    [text('dead.does'), 'does']];
  return html`<${Long} items=${all}>${(shown) => table(text('refused'), columns,
    shown.map((each) => ({
      key: `${each.code} ${each.why} ${each.event_key}`,
      cells: [
        [html`<a href=${linkTo('events', each.event_id)}>${each.event_key || each.event_id}</a>`,
          html`<span class="id">${each.event_id.slice(0, 8)}</span>`],
        faultText(each.why),
        html`<span class="code bad" title=${text('events.told')}>${each.code}</span>`,
        number(each.callbacks),
        number(each.requests),
        ago(each.last),
        each.retried_until ? time(each.retried_until) : text('refused.gave_up'),
        each.why === NO_ROUTE && each.event_key && html`<a class="button"
          href=${linkTo('routes', null, { key: each.event_key })}
          aria-label="${text('explain.short')}${text('colon')}${each.event_key}">
          ${text('explain.short')}</a>`,
      ],
    })))}<//>`;
}

function Replay({ query: { match, since }, loaded }) {
  const [isOpen, open] = useState(false);
  return html`<div class="acts"><button type="button" onClick=${() => open(true)}>
    ${text('refused.replay')}</button>
    ${isOpen && html`<${Replaying} label=${text('refused')} path="refused/replay"
      selections=${[{ ...(match && { match: [match] }), ...(since && { since }) }]}
      view=${previewView} close=${() => { open(false); loaded.reload(); }} />`}</div>`;
}

/** `5 would be delivered now`, and why others would not. */
function previewView([{ faults: all, number: n, replayed }], carryOut) {
  const still = new Map();
  for (const { now, callbacks } of all) {
    if (now) still.set(now, (still.get(now) ?? 0) + callbacks);
  }
  return html`
    <p><b>${text('refused.fine', { n })}</b></p>
    ${[...still].map(([why, count]) => html`<p>${text('refused.still',
      { n: count, why: faultText(why) })}</p>`)}
    ${replayed > 0 && quiet(text('refused.replayed', { n: replayed }))}
    ${n > 0 && [quiet(text('refused.means')), html`<button type="button" class="strong"
      onClick=${carryOut}>${text('do.replay', { n })}</button>`]}`;
}
