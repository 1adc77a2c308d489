// Parts of the rooms: the session that they share, hooks that load data, the room itself, tables,
// times, targets in words, charts.

import { Gone, Problem, keepToken, now, reach, token } from './api.js';
import { clock, duration, isKnown, linkTo, milliseconds, minute, number, placeOf, problemText,
  problemTitle, text, textNodes, wholeTime } from './logic.js';
import { html, useEffect, useRef, useState } from './vendor/preact.js';

// The session

/** How often data is loaded, and how often while the router does not answer, in milliseconds. */
export const OFTEN = 5000;
const GONE = 2000;

/** How long events of the stream are collected before the data is loaded, in milliseconds. */
const SOON = 1000;

export const session = {
  place: placeOf(location.hash),
  /** Grows with each visit of the same place, which loads it again. */
  visit: 0,
  /** Grows with each token. */
  access: 0,
  /** The token's holder and permissions; null until loaded. */
  you: null,
  /** The problem that denies access. Nothing is loaded until there is another token. */
  refusal: null,
  /** Whether the stream is open; null until it is known. */
  isLive: null,
  /** Since when the router has not answered, in milliseconds; null if it answers. */
  goneSince: null,
  /** The number of troubles, for the title; all targets by name, for inputs and warnings. */
  wrong: 0,
  targets: new Map(),
};

let draw = () => {};

/** Calls `next` after each change. */
export function drawBy(next) {
  draw = next;
}

export function change(values) {
  Object.assign(session, values);
  draw();
}

export const may = (permission) => session.you?.may.includes(permission) ?? false;

/** Whether the token is a team's. */
export const isTeams = () => Boolean(session.you?.owner);

/** Goes to a place. A visit of the current place loads it again. */
export function go(link) {
  const before = location.href;
  location.hash = link;
  if (location.href === before) change({ visit: session.visit + 1 });
}

/** Goes to a place without a new entry in the browser's history. */
export function replace(link) {
  history.replaceState(null, '', link);
  change({ place: placeOf(location.hash) });
}

/** Starts anew with the current token. */
export function begin() {
  change({ access: session.access + 1, you: null, refusal: null, isLive: null, goneSince: null });
}

/** Forgets a wrong token: the router limits how often one may be sent. */
export function refuse(problem) {
  const had = Boolean(token());
  if (problem.status === 401) keepToken('');
  change({ you: null, isLive: null, goneSince: null, refusal: { problem, had } });
}

/** Takes note of a failed request, which began then. */
function failed(error, began) {
  import('./rooms/words.js').then(draw, () => {});
  if (error.status === 401) {
    refuse(error);
  } else if (error instanceof Problem) {
    change({ goneSince: null });
  } else {
    // Any other error means an unreadable answer, which counts as none.
    if (!(error instanceof Gone)) reportError(error);
    change({ goneSince: session.goneSince ?? began });
  }
}

/**
 * Loads data again and again; another key, visit or token starts without data. `load` gets the
 * previous data. Returns `{data, problem, reload, soon, update}`.
 */
export function useLoad(load, key, every = OFTEN) {
  const whole = JSON.stringify([key, session.visit, session.access]);
  const [state, setState] = useState({});
  const it = useRef({}).current;
  const { data = null, problem = null } = state.whole === whole ? state : {};
  Object.assign(it, { load, data, every });
  useEffect(() => {
    let last = null;
    it.reload = async () => {
      clearTimeout(it.timer);
      const mine = last = Symbol('load');
      const began = Date.now();
      const keep = (values) => setState({ whole, data: it.data, problem: null, ...values });
      try {
        const found = await it.load(it.data);
        if (mine !== last) return;
        it.loaded = Date.now();
        it.took = it.loaded - began;
        keep({ data: found });
        change({ goneSince: null });
      } catch (error) {
        if (mine !== last) return;
        if (error instanceof Problem) keep({ problem: error });
        failed(error, began);
      }
      if (session.refusal) return;
      it.timer = setTimeout(() => (document.hidden && !session.goneSince ? null : it.reload()),
        session.goneSince ? GONE : it.every);
    };
    it.reload();
    // A look through the archive is not repeated each time that its tab is shown.
    const isFresh = () => !session.goneSince && Date.now() - (it.loaded ?? 0) < it.every;
    const appears = () => (document.hidden || isFresh() ? null : it.reload());
    document.addEventListener('visibilitychange', appears);
    return () => {
      last = null;
      clearTimeout(it.timer);
      document.removeEventListener('visibilitychange', appears);
    };
  }, [whole]);
  return {
    data,
    problem,
    reload: () => it.reload(),
    /** Loads once for all calls within a moment, which is longer if loading takes long. */
    soon: () => {
      it.soon ??= setTimeout(() => { it.soon = null; it.reload(); },
        Math.max(SOON, 10 * (it.took ?? 0)));
    },
    update: (values) => setState((before) => ({ ...before, data: { ...before.data, ...values } })),
  };
}

// The live stream: server-sent events, read by fetch because the token is in a header

/** The stream is broken after this silence, in milliseconds: the router beats every second. */
const SILENCE = 2800;

/** Waits before another try, in milliseconds; the last one repeats. */
const WAITS = [500, 1000, 2000, 5000];

/**
 * Follows the stream until it is closed by the function that this returns. Calls
 * `receive(kind, data)` for each event, and `mark(isLive)` when the stream breaks or returns.
 */
function follow(query, receive, mark) {
  const closing = new AbortController();
  keepFollowing(query, receive, mark, closing.signal);
  return () => closing.abort();
}

async function keepFollowing(query, receive, mark, closed) {
  const path = `stream?${new URLSearchParams(query)}`;
  for (let tries = 0; !closed.aborted; tries += 1) {
    const silent = new AbortController();
    const wait = () => setTimeout(() => silent.abort(), SILENCE);
    let timer = wait();
    try {
      const signal = AbortSignal.any([closed, silent.signal]);
      const response = await reach(path, { signal });
      // Without access there is no stream; a wrong token is not sent again.
      if (response.status === 401) return;
      if (!response.ok) throw new Gone(`HTTP ${response.status}`);
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        clearTimeout(timer);
        timer = wait();
        tries = 0;
        const blocks = (rest + value).split('\n\n');
        rest = blocks.pop();
        for (const [kind, data] of blocks.map(eventOf)) {
          // No event is missed from the first beat on.
          if (kind === 'beat') mark(true);
          else if (data) receive(kind, data);
        }
      }
    } catch {
      // Any broken stream is tried again.
    } finally {
      clearTimeout(timer);
    }
    if (closed.aborted) return;
    mark(false);
    const pause = WAITS[Math.min(tries, WAITS.length - 1)];
    await new Promise((resolve) => { setTimeout(resolve, pause); });
  }
}

/** One block of lines, without comments. */
function eventOf(block) {
  const lines = block.split('\n');
  const field = (name) => lines.filter((line) => line.startsWith(name))
    .map((line) => line.slice(name.length).trimStart()).join('\n');
  return [field('event:'), field('data:') && JSON.parse(field('data:'))];
}

/** Follows the stream; `marked(isLive, was)` is called for each connection and each break. */
function useStream(query, receive, marked) {
  const latest = useRef({});
  latest.current = { receive, marked };
  useEffect(() => {
    if (session.refusal) return undefined;
    let isOpen = null;
    return follow(query, (...event) => latest.current.receive?.(...event), (isLive) => {
      if (isLive === isOpen) return;
      isOpen = isLive;
      const was = session.isLive;
      change({ isLive });
      latest.current.marked(isLive, was);
    });
  }, [JSON.stringify(query), session.access, Boolean(session.refusal)]);
}

// The room

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

export const quiet = (words) => html`<p class="quiet">${words}</p>`;

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
export const badge = (state) => html`<span class="badge ${state}">${text(`state.${state}`)}</span>`;

export const targetLink = (name) => html`<a href=${linkTo('targets', name)}>${name}</a>`;

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
  const { state, last_failure: failure, lately } = target;
  if ((state === 'failing' || state === 'degraded') && failure) {
    found.push([[textNodes(`why.${state}`, { reason: whyOf(failure) }), wordsOf(failure)],
      isKnown(`do.${failure.reason}`) ? text(`do.${failure.reason}`) : null,
      [target.failing_since && [textNodes('why.since', { at: time(target.failing_since),
        age: ago(target.failing_since) }), text('gap')],
      lately.attempts > 0 && text('why.lately', lately)]]);
  }
  if (target.paused) found.push([pausedText(target.paused), text('do.paused')]);
  if (target.breaker?.open || target.breaker?.half_open) {
    found.push([text('why.breaker'), text('do.breaker_open')]);
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
export function waitingText({ unsettled: { awaiting, queued }, recovery, expires_at: at }) {
  if (!awaiting && !queued) return null;
  const parts = [awaiting && text('why.awaiting', { n: awaiting }),
    queued && text('why.queued', { n: queued })].filter(Boolean).join(text('and'));
  if (recovery) {
    const { trigger, left, per_second: pace } = recovery;
    return [parts, text('why.recovering', { trigger: text(`trigger.${trigger}`), left, pace })];
  }
  // The first one expires at its next attempt, if that is the last.
  return [parts, at && (Date.parse(at) > now() ? textNodes('why.expires', { age: ago(at) })
    : text('why.expires_next'))];
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

/** The link to a target's deliveries in a state. */
const deliveriesLink = (target, state) =>
  linkTo('dead', null, { target, state: state === 'dead' ? '' : state });

/** The number of deliveries by state, as links. */
export function unsettled(target) {
  const parts = ['dead', 'queued', 'awaiting'].filter((state) => target.unsettled[state])
    .map((state) => html`<a class=${state === 'dead' ? 'bad' : null} href=${deliveriesLink(target.name,
      state)}>
      ${text(`count.${state}`, { n: target.unsettled[state] })}</a>`);
  return parts.length ? joined(parts) : '0';
}

// Routes

/** The patterns of a route by field, then those of its exceptions. */
export function patterns(route) {
  return [[route.match, ''], [route.except, text('route.except')]].flatMap(([rule, word]) =>
    Object.entries(rule).map(([field, each]) => html`<div>
      <span class="quiet">${word}${field} </span>
      ${joined(each.map((pattern) => html`<code>${pattern}</code>`), text('or'))}</div>`));
}

// Charts of an hour by the minute, as SVG. The pointer or the arrow keys show a minute's numbers.

const HEIGHT = 40;

/** A bar is at least so high, so that a single event can be seen. */
const LEAST = 1.5;

/** Events per minute: the failed ones below the successful ones, and the retries as a line. */
export function EventsChart({ title, minutes, open }) {
  const { at, events, failed, retries } = minutes;
  const top = Math.max(1, ...events);
  const label = (n, bad, again) => text('chart.events', { n, failed: bad })
    + (retries ? text('chart.retries', { first: Math.max(0, n - again), again }) : '');
  return html`<${Chart} title=${title} at=${at} count=${events.length} open=${open}
    top=${number(top)} half=${number(top / 2)}
    label=${(index) => label(events[index], failed[index], retries?.[index])}
    summary=${label(sum(events), sum(failed), sum(retries ?? []))}
    keys=${[['ok', text('chart.key.fine')], ['bad', text('chart.key.failed')],
    retries && ['p99', text('chart.key.retries')]].filter(Boolean)}
    drawn=${[bars(events, failed, top),
      retries && line('p99', retries.map((each) => each || null), top)]} />`;
}

/** The lower line is p50, the upper one p99. */
export function LatencyChart({ title, minutes, open }) {
  const { at, p50_ms: half, p99_ms: most } = minutes;
  const known = most.filter((each) => each !== null);
  const top = Math.max(1, ...known);
  const label = (index) => (most[index] === null ? text('chart.nothing')
    : text('chart.latency', { p50: milliseconds(half[index]), p99: milliseconds(most[index]) }));
  return html`<${Chart} title=${title} at=${at} count=${most.length} open=${open} label=${label}
    top=${milliseconds(top)} half=${milliseconds(top / 2)}
    summary=${known.length ? text('chart.slowest', { p99: milliseconds(top) })
      : text('chart.nothing')}
    keys=${[['p50', 'p50'], ['p99', 'p99']]}
    drawn=${[line('p99', most, top), line('p50', half, top)]} />`;
}

/** Failed attempts by the minute, beside their rate. */
export function sparkline(failed) {
  const top = Math.max(1, ...failed);
  return html`<svg class="spark" viewBox="0 0 ${failed.length} ${HEIGHT}" aria-hidden="true"
    preserveAspectRatio="none">${bars(failed, failed, top)}</svg>`;
}

/** Reasons by their number, the most frequent first. */
export function reasonBars(reasons, nameOf) {
  const rows = Object.entries(reasons).filter(([, count]) => count)
    .sort(([, one], [, other]) => other - one);
  const top = Math.max(1, ...rows.map(([, count]) => count));
  return html`<ul class="reasons">${rows.map(([reason, count]) => html`<li>
    <span>${nameOf(reason)}</span>
    ${share(count / top, reason === 'acknowledged' ? 'ok' : 'bad')}
    <b>${number(count)}</b></li>`)}</ul>`;
}

/** A part of the whole, as a bar. */
export function share(part, kind, group = null) {
  return html`<svg class=${group} viewBox="0 0 100 4" preserveAspectRatio="none"
    aria-hidden="true"><rect class=${kind} width=${Math.max(0.7, part * 100)} height="4" /></svg>`;
}

/** `open(from, until)` returns the link to a minute's events. */
function Chart({ title, at, count, top, half, label, summary, keys, drawn, open }) {
  // The minute itself, so that the readout stays at it while the chart moves on.
  const [pointed, point] = useState(null);
  const moment = (index) => Date.parse(at) + index * 60_000;
  const index = pointed === null ? null
    : Math.min(count - 1, Math.max(0, Math.round((pointed - moment(0)) / 60_000)));
  const indexAt = ({ currentTarget, clientX }) => {
    const box = currentTarget.getBoundingClientRect();
    return Math.min(count - 1, Math.max(0, Math.floor(((clientX - box.left) / box.width) * count)));
  };
  const visit = (chosen) => go(open(new Date(moment(chosen)).toISOString(),
    new Date(moment(chosen + 1)).toISOString()));
  const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -count, End: count };
  const press = (event) => {
    if (event.key === 'Enter' && index !== null) visit(index);
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = (index ?? count - 1) + (index === null && event.key === 'ArrowLeft' ? 0
      : steps[event.key]);
    point(moment(Math.min(count - 1, Math.max(0, next))));
  };
  const words = index === null ? summary : `${minute(at, index)} · ${label(index)}`;
  const ticks = [0.25, 0.5, 0.75].map((part) => part * count);
  return html`<figure class="chart">
    <figcaption><b>${title}</b> <output>${words}</output>
      <span class="key">${keys.map(([kind, name]) => html`<span><i class=${kind}></i>${name}
      </span>`)}</span></figcaption>
    <div class="plot" tabindex="0" role="slider" aria-label=${title} aria-valuetext=${words}
      aria-valuemin="0" aria-valuemax=${count - 1} aria-valuenow=${index ?? count - 1}
      title=${text('chart.open')} onKeyDown=${press} onClick=${(event) => visit(indexAt(event))}
      onPointerMove=${(event) => point(moment(indexAt(event)))} onPointerLeave=${() => point(null)}>
      <svg viewBox="0 0 ${count} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true">
        <path class="grid" vector-effect="non-scaling-stroke" d=${`M0 ${HEIGHT / 2}H${count}${
          ticks.map((tick) => `M${tick} 0V${HEIGHT}`).join('')}`} />
        ${index !== null && html`<rect class="cursor" x=${index} width="1" height=${HEIGHT} />`}
        ${drawn}
      </svg>
      <span class="top">${top}</span><span class="half">${half}</span>
    </div>
    <div class="axis">${[0, ...ticks, count - 1].map((tick) => html`<span>${minute(at, tick)}
    </span>`)}</div>
  </figure>`;
}

function bars(events, failed, top) {
  const tall = (count) => (count ? Math.max(LEAST, (count / top) * HEIGHT) : 0);
  const bar = (index, from, height) => (height > 0
    ? `M${index + 0.12} ${round(HEIGHT - from)}v${-round(height)}h.76v${round(height)}z` : '');
  const fine = events.map((count, index) => {
    const bad = tall(failed[index]);
    return bar(index, bad, Math.max(0, tall(count) - bad));
  });
  const bad = failed.map((count, index) => bar(index, 0, tall(count)));
  return [['ok', fine], ['bad', bad]].map(([kind, parts]) =>
    html`<path class=${kind} d=${parts.join('')} />`);
}

/** A minute without a number is a gap; one between gaps is a dash. */
function line(kind, values, top) {
  const path = values.map((value, index) => {
    if (value === null) return '';
    const y = round(HEIGHT - 1 - (value / top) * (HEIGHT - 2));
    const begins = index === 0 || values[index - 1] === null;
    return begins ? `M${index + 0.1} ${y}H${index + 0.5}` : `L${index + 0.5} ${y}`;
  });
  return html`<path class=${kind} d=${path.join('')} vector-effect="non-scaling-stroke" />`;
}

const round = (value) => Math.round(value * 100) / 100;

const sum = (values) => values.reduce((total, value) => total + value, 0);
