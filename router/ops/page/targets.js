// A target's state, the reasons, and what to do about them.

import { now } from './api.js';
import { h } from './elements.js';
import { ago, number, time } from './figures.js';
import { linkTo } from './place.js';
import { isKnown, text, textNodes } from './language.js';

/** States that need attention. */
const TROUBLED = new Set(['failing', 'dead_letters', 'paused', 'breaker_open']);

export function isTroubled(target) {
  return TROUBLED.has(target.state);
}

/** Its state, with a mark that does not depend on colour. */
export function badge(state) {
  return h('span', { class: `badge ${state}` }, text(`state.${state}`));
}

export function targetLink(name) {
  return h('a', { href: linkTo('targets', name) }, name);
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
  if (code || msg) return [' ', h('q', null, [code, msg].filter(Boolean).join(' '))];
  return detail ? h('span', { class: 'quiet' }, ` (${detail})`) : null;
}

/** Its problems, as a list of `[problem, what to do]`. */
export function troubles(target) {
  const found = [];
  const failure = target.last_failure;
  if (target.state === 'failing' && failure) {
    found.push([
      [textNodes('why.failing', { reason: whyOf(failure) }), wordsOf(failure), text('full_stop'),
        h('span', { class: 'quiet' },
          target.failing_since ? [textNodes('why.since', { at: time(target.failing_since),
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

/** The problems with what to do, and the deliveries that wait. */
export function problemsView(found, waits) {
  return h('div', null,
    found.map(([what, doing]) => h('p', null, what,
      doing ? h('span', { class: 'doing' }, doing) : null)),
    waits ? h('p', { class: 'quiet' }, waits) : null);
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
