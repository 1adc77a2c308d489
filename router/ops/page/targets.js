// What is to be said of a target, wherever it is named: its state, why, and what to do about it.

import { now } from './api.js';
import { h } from './elements.js';
import { ago, number, time } from './figures.js';
import { linkTo } from './place.js';
import { isKnown, text, told } from './telling.js';

/** These want a person; the others are as they should be. */
const TROUBLED = new Set(['failing', 'dead_letters', 'paused', 'breaker_open']);

export function isTroubled(target) {
  return TROUBLED.has(target.state);
}

/** Its state in a word, with a mark that needs no colour. */
export function badge(state) {
  return h('span', { class: `badge ${state}` }, text(`state.${state}`));
}

export function targetLink(name) {
  return h('a', { href: linkTo('targets', name) }, name);
}

/** A reason in words, with the word itself that logs and metrics use. */
export function reasonText(reason) {
  return isKnown(`reason.${reason}`) ? text(`reason.${reason}`) : reason;
}

/** How an attempt ended, with the receiver's own words, in quotes. */
export function ended(attempt) {
  if (!attempt.reason) {
    return isKnown(`skipped.${attempt.skipped}`) ? text(`skipped.${attempt.skipped}`)
      : text('skipped', { why: attempt.skipped || '?' });
  }
  return [whyOf(attempt), saying(attempt)];
}

/** Its reason with its HTTP status, where that tells something: a 2xx does not. */
function whyOf({ reason, status }) {
  if (!status || (status >= 200 && status <= 299)) return reasonText(reason);
  return reason === 'status' ? text('reason.status_is', { status: String(status) })
    : `${reasonText(reason)} · HTTP ${status}`;
}

/** What the receiver said, or else what the router knows of it. */
export function saying({ code, msg, detail }) {
  if (code || msg) return [' ', h('q', null, [code, msg].filter(Boolean).join(' '))];
  return detail ? h('span', { class: 'quiet' }, ` (${detail})`) : null;
}

/** All that is wrong with it, each with what to do: a list of `[what, what to do]`. */
export function troubles(target) {
  const found = [];
  const failure = target.last_failure;
  if (target.state === 'failing' && failure) {
    found.push([
      [told('why.failing', { reason: whyOf(failure) }), saying(failure), text('full_stop'),
        h('span', { class: 'quiet' },
          target.failing_since ? [told('why.since', { at: time(target.failing_since),
            age: ago(target.failing_since) }), text('gap')] : null, ofHour(target))],
      isKnown(`do.${failure.reason}`) ? text(`do.${failure.reason}`) : null,
    ]);
  }
  if (target.paused) found.push([pausedText(target.paused), text('do.paused')]);
  if (target.breaker?.open || target.breaker?.half_open) {
    found.push([text('why.breaker'), text('do.breaker')]);
  }
  if (target.unsettled.dead) {
    found.push([
      h('a', { href: linkTo('dead', null, { target: target.name }) },
        text('why.dead', { n: target.unsettled.dead })),
      text('do.dead'),
    ]);
  }
  return found;
}

/** All of that, with what to do about each, and what waits. */
export function whyTold(found, waits) {
  return h('div', null,
    found.map(([what, doing]) => h('p', null, what,
      doing ? h('span', { class: 'doing' }, doing) : null)),
    waits ? h('p', { class: 'quiet' }, waits) : null);
}

/** What waits for it, in words; null where nothing does. */
export function waitingText(target) {
  const { awaiting, queued } = target.unsettled;
  if (!awaiting && !queued) return null;
  const parts = [];
  if (awaiting) parts.push(text('why.awaiting', { n: awaiting }));
  if (queued) parts.push(text('why.queued', { n: queued }));
  return [parts.join(text('and')), endsTold(target.gives_up)];
}

/** When the first is given up: at its next attempt, where nothing but that is left. */
function endsTold(at) {
  if (!at) return null;
  return Date.parse(at) > now() ? told('why.gives_up', { age: ago(at) }) : text('why.gives_up_next');
}

function pausedText(paused) {
  if (paused.by === 'routes.yaml') return text('why.paused_in_file');
  return told('why.paused', {
    who: h('b', null, paused.who),
    until: time(paused.until),
    age: ago(paused.until),
    because: paused.because ? h('q', null, paused.because) : text('no_reason'),
  });
}

function ofHour(target) {
  const { attempts, failed } = target.hour;
  if (!attempts) return null;
  return text('why.of_hour', { failed: number(failed), n: attempts, attempts: number(attempts) });
}
