// Events: live, or found by a search.

import './words.js';
import { ask } from '../api.js';
import { clock, faultText, grouped, isFollowed, isKnown, lineKey, linkTo, matchedBy, merged, text,
  textNodes } from '../logic.js';
import { Room, go, isTeams, joined, moreLink, queryOf, quiet, resultOf, session, table, targetLink, time,
  useLoad, wordsOf } from '../parts.js';
import { html, useRef, useState } from '../vendor/preact.js';

/** How many live lines are kept at most, and how long they are collected, in milliseconds. */
const KEPT = 200;
const COLLECTED = 250;

/** Log events that always need attention. */
const BAD = new Set(['unmatched', 'dead_letter', 'lost']);

/** How many more results "More" requests, and the limit of the API. */
const PAGE = 50;
const MOST = 200;

/** A search is not repeated: it costs a process, and the stream adds new lines. */
const ONCE = 86_400_000;

const SINCE = ['15m', '1h', '3h', '24h', '7d'];

export default function Events({ place: { query } }) {
  const isLive = isFollowed(query);
  const [held, hold] = useState(null);
  const news = useRef([]);
  const { limit, ...filters } = query;
  const loaded = useLoad(async (before) => {
    const found = await ask('events', { ...filters, limit: limit || PAGE });
    return { found, lines: merged([before?.lines ?? [], found.events], isLive ? KEPT : MOST) };
  }, query, ONCE);
  const receive = (kind, what) => {
    if (!isLive || (kind !== 'event' && !isKnown(`happening.${kind}`))) return;
    if (!news.current.length) setTimeout(take, COLLECTED);
    news.current.push({ ...what, what: what.what ?? kind, at: what.at ?? what.time });
    // One drawing can't show more.
    news.current.splice(0, news.current.length - KEPT);
  };
  const latest = useRef();
  latest.current = loaded;
  const take = () => {
    const { data, update } = latest.current;
    if (!data) setTimeout(take, COLLECTED);
    else update({ lines: merged([news.current.splice(0).reverse(), data.lines], KEPT) });
  };
  const { what, target, failed } = query;
  return html`<${Room} title=${text('events')} loaded=${loaded} receive=${receive}
    stream=${isLive ? { ...(target && { target }), ...(what && { match: what }),
      ...(failed && { failed }) } : undefined}
    connected=${isLive ? loaded.soon : undefined}
    head=${html`<${Filters} key=${`${location.hash} ${session.visit}`} query=${query} />`}>
    ${({ found, lines }) => html`
      <p class="acts">
        ${isLive ? html`<button type="button" aria-pressed=${String(Boolean(held))}
          onClick=${() => hold(held ? null : lines)}>${held
            ? text('events.release', { n: lines.filter((line) => !held.includes(line)).length })
            : text('events.hold')}</button>`
          : html`<a href=${linkTo('events')}>${text('events.follow')}</a>`}
        <span class="quiet">${isLive ? text('events.following') : reach(found)}</span>
        ${!isTeams() && html`<a href=${linkTo('refused')}>${text('refused')}</a>`}</p>
      ${lines.length ? html`<${Lines} lines=${held ?? lines} />`
        : quiet(isLive ? text('events.none_yet') : [text('events.none'), ' ',
          !found.looked_in.length && text('events.nowhere')])}
      ${!isLive && found.more && moreLink('events', query, PAGE, MOST)}`}
  <//>`;
}

function Filters({ query }) {
  const { what, since = '', until, target, code, failed } = query;
  const option = (value, words) =>
    html`<option value=${value} selected=${since === value}>${words}</option>`;
  return html`<form class="filters" onSubmit=${(event) => {
    event.preventDefault();
    const chosen = queryOf(event.currentTarget);
    go(linkTo('events', null, { what, ...chosen, until: chosen.since === since && until }));
  }}>
    <label>${text('events.since')}<select name="since">
      ${option('', text(isFollowed({ what }) ? 'events.now' : 'events.any'))}
      ${SINCE.map((each) => option(each, text(`since.${each}`)))}
      ${since && !SINCE.includes(since) && option(since, `${clock(since)}${
        until ? ` – ${clock(until)}` : ''}`)}</select></label>
    <label>${text('target')}<input name="target" defaultValue=${target ?? ''} list="targets"
      autocomplete="off" spellcheck=${false} /></label>
    <label>${text('events.code')}<input name="code" defaultValue=${code ?? ''} size="5"
      autocomplete="off" /></label>
    <label class="check"><input name="failed" type="checkbox" value="true"
      defaultChecked=${Boolean(failed)} />${text('events.failed')}</label>
    <button class="strong">${text('filter')}</button>
    ${what && html`<a class="button" href=${linkTo('events', null, { ...query, what: '' })}
      aria-label="${text('events.without')} ${what}">${what} ✕</a>`}</form>`;
}

/** A row for each event: its last line, and a button for the earlier ones. */
function Lines({ lines }) {
  const [opened, open] = useState(null);
  const columns = [[text('time'), 'short bare'], [text('event'), 'name'],
    [text('events.happened'), 'short'], [text('events.went')]];
  return table(text('events'), columns, grouped(lines).map(({ key, last, earlier }) => {
    const isOpen = opened === key;
    const matched = matchedBy(last);
    return { key, cells: [time(last.at),
      [nameOf(last), matched && html`<span class="note">
        ${text('events.matched', { id: text(matched) })}</span>`],
      codeOf(last),
      [resultsOf(last), earlier.length > 0 && html` <button type="button" class="copy"
        aria-expanded=${String(isOpen)} onClick=${() => open(isOpen ? null : key)}
        aria-label="${text('events.earlier', { n: earlier.length })} ${last.event_key ?? ''} ${
          (last.event_id ?? '').slice(0, 8)}">
        ${text('events.earlier', { n: earlier.length })}</button>`]],
    wide: isOpen && html`<ul class="panel lines">${earlier.map((line) => html`
      <li key=${lineKey(line)}>${time(line.at)} ${codeOf(line)} <span>${resultsOf(line)}</span>
      </li>`)}</ul>` };
  }));
}

/** Its key, as a link to its page. */
function nameOf(row) {
  const id = row.event_id || row.request_id;
  return id && [html`<a href=${linkTo('events', id)}>${row.event_key || id}</a>`,
    html`<span class="id">${id.slice(0, 8)}</span>`];
}

/** The code for EBaaS, or the log event. */
function codeOf(row) {
  if (['request', 'event', 'refused'].includes(row.what)) {
    return row.code ? html`<span class="code ${row.code === '000' ? 'good' : 'bad'}"
      title=${text('events.told')}>${row.code}</span>` : text('told.gone');
  }
  const words = text(`happening.${row.what}`);
  return BAD.has(row.what) ? html`<b class="bad">${words}</b>` : words;
}

/** The failed attempts, then the number of the others. */
function resultsOf(row) {
  if (row.what === 'unmatched') return text('no_route');
  if (row.what === 'refused') return text('step.refused', { why: faultText(row.why) });
  if (row.what === 'dropped') return text('events.dropped', { n: row.count });
  if (row.deliveries) {
    const open = row.deliveries.filter((each) => each.state !== 'acknowledged');
    return joined((open.length ? open : row.deliveries).map((each) =>
      [targetLink(each.target), text('colon'), text(`delivery.${each.state}`)]), text('semicolon'));
  }
  if (row.target) {
    return [targetLink(row.target), text('colon'), row.reason ? resultOf(row) : wordsOf(row)];
  }
  const targets = row.targets ?? [];
  const failed = targets.filter((each) => each.reason && each.reason !== 'acknowledged');
  const fine = targets.filter((each) => !failed.includes(each));
  return [
    joined(failed.map((each) => [targetLink(each.target), text('colon'), resultOf(each)]),
      html`<br />`),
    fine.length > 0 && html`<span class="quiet"
      title=${fine.map((each) => each.target).join(text('comma'))}>
      ${failed.length ? ' · ' : ''}${text('events.fine', { n: fine.length })}</span>`,
  ];
}

/** The searched places, and how far back they reach. */
function reach(found) {
  const name = (place) => (isKnown(`place.${place}`) ? text(`place.${place}`) : place);
  const places = found.looked_in.map((each) => (each.back_to
    ? text('events.back_to', { place: name(each.name), at: clock(each.back_to) })
    : name(each.name)));
  return [textNodes('events.looked', { places: places.join(text('comma')) }),
    found.skipped ? ` ${text('events.skipped', { n: found.skipped })}` : ''];
}
