// Parts of every room: the room itself, tables, times, targets in words, copy buttons.

import { now } from './api.js';
import { isTroubled, linkTo } from './logic.js';
import { session, useStream } from './state.js';
import { clock, duration, isKnown, number, problemText, problemTitle, text, textNodes, wholeTime }
  from './text.js';
import { html, useEffect, useRef, useState } from './vendor/preact.js';

/** How many rows of a long list are shown at first. */
const FIRST = 20;

let hasArrived = false;

/**
 * A room: its heading and `head` at once, and `children(data)` when its data has arrived. `stream`
 * is its filter of the stream, by default failures; `receive` gets the stream's events.
 */
export function Room({ title, heading, kind, loaded, stream = { failed: 'true' }, receive,
  connected, head, children }) {
  const { data, problem } = loaded;
  const h1 = useRef();
  useStream(stream, receive, (isLive, was) => {
    if (isLive && connected) connected();
    else if (!isLive || was === false) loaded.reload();
  });
  useEffect(() => {
    const wrong = session.wrong ? `(${session.wrong}) ` : '';
    document.title = `${wrong}${title} · ${text('product')}`;
  });
  useEffect(() => {
    // Another room begins at its top, with the focus on its heading.
    if (hasArrived) {
      scrollTo(0, 0);
      h1.current.focus();
    }
    hasArrived = true;
  }, []);
  const isMissing = problem && !data;
  return html`<main id="main" tabindex="-1" aria-busy=${String(!data && !problem)}>
    <h1 tabindex="-1" ref=${h1} class=${kind}>
      ${isMissing ? problemTitle(problem) : heading ?? title}</h1>
    ${problem && html`<p class=${data ? 'panel bad' : null} role="alert">
      ${problemText(problem)}</p>`}
    ${!isMissing && head}
    ${data ? children(data) : !problem && html`<${Skeleton} />`}
  </main>`;
}

function Skeleton() {
  if (session.goneSince) return quiet(text('gone.room'));
  return html`<div class="skeleton"><span class="unseen">${text('looking')}</span>
    ${[1, 2, 3, 4, 5, 6].map(() => html`<i></i>`)}</div>`;
}

export function quiet(words) {
  return html`<p class="quiet">${words}</p>`;
}

/**
 * A table, which a narrow screen shows as cards with labelled cells. `columns`: `[title, kind]`
 * each. The one of kind `name` names its row, those of kind `does` have buttons, and those of kind
 * `number` and `short` share a line of a card, `bare` without a title. `rows`: `{key, kind, cells}`
 * each, with a `wide` cell over all columns below it, if there is one.
 */
export function table(caption, columns, rows, kind = null) {
  return html`<div class="table"><table class=${kind}>
    <caption class="unseen">${caption}</caption>
    <thead><tr>${columns.map(([title, each]) => html`<th scope="col" class=${each}>
      ${each === 'does' ? html`<span class="unseen">${title}</span>` : title}</th>`)}</tr></thead>
    <tbody>${rows.flatMap((row) => [
    html`<tr key=${row.key} class=${row.kind}>
      ${row.cells.map((each, index) => cell(each, ...columns[index]))}</tr>`,
    row.wide && html`<tr key=${`${row.key} wide`}>
      <td colspan=${columns.length} class="wide">${row.wide}</td></tr>`])}</tbody>
  </table></div>`;
}

function cell(content, title, kind) {
  if (kind === 'name') return html`<th scope="row" class=${kind}>${content}</th>`;
  return html`<td class=${kind} data-label=${kind === 'does' ? null : title}>${content}</td>`;
}

/** The first of many rows or items, and a button that shows the others. */
export function Long({ items, children }) {
  const [isOpen, open] = useState(false);
  const rest = items.length - FIRST;
  return html`${children(isOpen ? items : items.slice(0, FIRST))}
    ${rest > 0 && !isOpen && html`<p><button type="button" onClick=${() => open(true)}>
      ${text('others', { n: rest })}</button></p>`}`;
}

/** The link to more results, up to the limit of the API. */
export function moreLink(room, query, page, most) {
  const limit = Number(query.limit || page) + page;
  if (limit > most) return quiet(text('events.narrow'));
  return html`<p><a class="button"
    href=${linkTo(room, null, { ...query, limit: String(limit) })}>${text('more')}</a></p>`;
}

/** A dialog over the page: Esc closes it, and the focus returns to where it was. */
export function Dialog({ label, close, children }) {
  const dialog = useRef();
  useEffect(() => {
    dialog.current.showModal();
    // Not on a button, which a second press of the same key would press.
    dialog.current.focus();
  }, []);
  return html`<dialog ref=${dialog} tabindex="-1" aria-label=${label} onClose=${() => {
    close();
    // The button that opened it may be gone.
    if (document.activeElement === document.body) document.querySelector('h1').focus();
  }}>${children}<button type="button" onClick=${() => dialog.current.close()}>
    ${text('dismiss')}</button></dialog>`;
}

/** The values of a form, as a query. */
export function queryOf(form) {
  const entries = [...new FormData(form)].map(([name, value]) => [name, value.trim()]);
  return Object.fromEntries(entries.filter(([, value]) => value));
}

/** The items with something between them. */
export function joined(items, between = text('comma')) {
  return items.map((item, index) => [index ? between : '', item]);
}

/** A time of day, with the date unless it is today; its title has the offset from UTC. */
export function time(at) {
  return at ? html`<time datetime=${at} title=${wholeTime(at)}>${clock(at, now())}</time>` : '–';
}

/** `12 min ago`, or `in 12 min`. */
export function ago(at) {
  if (!at) return '–';
  const seconds = (now() - Date.parse(at)) / 1000;
  return html`<time datetime=${at} title=${wholeTime(at)}>${text(
    seconds >= 0 ? 'time.ago' : 'time.in', { age: duration(Math.abs(seconds)) })}</time>`;
}

/** A button that copies a text. Without HTTPS there is no clipboard but the selection's. */
export function Copy({ value, name }) {
  const [isDone, done] = useState(false);
  const copy = async ({ currentTarget }) => {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(value);
    } else {
      getSelection().selectAllChildren(currentTarget.previousElementSibling);
      document.execCommand('copy');
    }
    done(true);
    setTimeout(() => done(false), 2000);
  };
  return html`<button type="button" class="copy" onClick=${copy}
    aria-label=${text('copy.what', { name })}>${text(isDone ? 'copied' : 'copy')}</button>`;
}

// Targets

/** Its state, with a mark that does not depend on colour. */
export function badge(state) {
  return html`<span class="badge ${state}">${text(`state.${state}`)}</span>`;
}

export function targetLink(name) {
  return html`<a href=${linkTo('targets', name)}>${name}</a>`;
}

/** A reason in words. */
export function reasonText(reason) {
  return isKnown(`reason.${reason}`) ? text(`reason.${reason}`) : reason;
}

/** The result of an attempt, with the receiver's own words in quotes. */
export function resultOf(attempt) {
  if (!attempt.reason) {
    return isKnown(`skipped.${attempt.skipped}`) ? text(`skipped.${attempt.skipped}`)
      : text('skipped', { why: attempt.skipped || '?' });
  }
  return [whyOf(attempt), wordsOf(attempt)];
}

/** Its reason, with its HTTP status unless that is 2xx. */
function whyOf({ reason, status }) {
  if (!status || (status >= 200 && status <= 299)) return reasonText(reason);
  return reason === 'status' ? text('reason.status_is', { status: String(status) })
    : `${reasonText(reason)} · HTTP ${status}`;
}

/** The receiver's own words, or the router's detail. */
export function wordsOf({ code, msg, detail }) {
  if (code || msg) return [' ', html`<q>${[code, msg].filter(Boolean).join(' ')}</q>`];
  return detail ? html`<span class="quiet"> (${detail})</span>` : null;
}

/** Its troubles, the most urgent first, as a list of `[trouble, what to do, more]`. */
export function troubles(target) {
  const found = [];
  const failure = target.last_failure;
  if (target.state === 'failing' && failure) {
    found.push([[textNodes('why.failing', { reason: whyOf(failure) }), wordsOf(failure)],
      isKnown(`do.${failure.reason}`) ? text(`do.${failure.reason}`) : null,
      [target.failing_since && [textNodes('why.since', { at: time(target.failing_since),
        age: ago(target.failing_since) }), text('gap')], ofHour(target)]]);
  }
  if (target.paused) found.push([pausedText(target.paused), text('do.paused')]);
  if (target.breaker?.open || target.breaker?.half_open) {
    found.push([text('why.breaker'), text('do.breaker')]);
  }
  if (target.unsettled.dead) {
    found.push([html`<a href=${linkTo('dead', null, { target: target.name })}>
      ${text('why.dead', { n: target.unsettled.dead })}</a>`, text('do.dead')]);
  }
  return found;
}

/** The troubles with what to do, and the deliveries that wait. */
export function problemsView(found, waits) {
  return html`<div class="wrongs">${found.map(([what, doing, more]) => html`<p>${what}
    ${more && html`<span class="quiet"> ${more}</span>`}
    ${doing && html`<span class="doing">${doing}</span>`}</p>`)}
    ${waits && quiet(waits)}</div>`;
}

/** The deliveries that wait, in words; null for none. */
export function waitingText(target) {
  const { awaiting, queued } = target.unsettled;
  if (!awaiting && !queued) return null;
  const parts = [];
  if (awaiting) parts.push(text('why.awaiting', { n: awaiting }));
  if (queued) parts.push(text('why.queued', { n: queued }));
  return [parts.join(text('and')),
    target.recovery ? recoveryText(target.recovery) : expiryText(target.expires_at)];
}

/** The progress of a recovery. */
function recoveryText({ trigger, left, per_second: pace }) {
  return text('why.recovering', { trigger: text(`trigger.${trigger}`), left, pace });
}

/** When the first one expires: at its next attempt, if that is the last. */
function expiryText(at) {
  if (!at) return null;
  return Date.parse(at) > now() ? textNodes('why.expires', { age: ago(at) })
    : text('why.expires_next');
}

function pausedText(paused) {
  if (paused.by === 'routes.yaml') return text('why.paused_in_file');
  return textNodes('why.paused', {
    who: html`<b>${paused.who}</b>`,
    until: time(paused.until),
    age: ago(paused.until),
    because: paused.because ? html`<q>${paused.because}</q>` : text('no_reason'),
  });
}

function ofHour(target) {
  const { attempts, failed } = target.hour;
  if (!attempts) return null;
  return text('why.of_hour', { failed: number(failed), n: attempts, attempts: number(attempts) });
}

/** The number of deliveries by state, as links. */
export function unsettled(target) {
  const parts = ['dead', 'queued', 'awaiting'].filter((state) => target.unsettled[state])
    .map((state) => html`<a class=${state === 'dead' ? 'bad' : null} href=${linkTo('dead', null,
      { target: target.name, state: state === 'dead' ? '' : state })}>
      ${text(`count.${state}`, { n: target.unsettled[state] })}</a>`);
  return parts.length ? joined(parts) : '0';
}

/** Deliveries that wait at a target without trouble. */
export function waiting(target) {
  const waits = isTroubled(target) ? null : waitingText(target);
  return waits && quiet([targetLink(target.name), text('colon'), waits]);
}

// Routes

/** The patterns of a route by field, then those of its exceptions. */
export function patterns(route) {
  return [[route.match, ''], [route.except, text('route.except')]].flatMap(([rule, word]) =>
    Object.entries(rule).map(([field, each]) => html`<div>
      <span class="quiet">${word}${field} </span>
      ${joined(each.map((pattern) => html`<code>${pattern}</code>`), text('or'))}</div>`));
}
