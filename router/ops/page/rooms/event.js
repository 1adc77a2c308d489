// One event: its requests and attempts in order of time, its state, and what comes next.

import { ask, now as routerTime } from '../api.js';
import { h, s } from '../elements.js';
import { ago, clock, milliseconds, number } from '../figures.js';
import { linkTo } from '../place.js';
import { table } from '../table.js';
import { resultOf, reasonText, targetLink } from '../targets.js';
import { isKnown, text, textNodes } from '../language.js';

export const event = {
  title: (place) => `${text('event')} ${place.name.slice(0, 8)}`,

  async load(place, before) {
    // A settled event does not change.
    if (before && !before.news && isOver(before.story)) return before;
    const body = place.query.body ? { body: 'true' } : {};
    return { story: await ask(`events/${encodeURIComponent(place.name)}`, body) };
  },

  /** A search is expensive: it is repeated when the stream reports this event. */
  seldom: true,
  /** Successful retries too. A key that would be a pattern cannot be followed. */
  stream: (place, { story }) => !/[*?[\]]/.test(story.event_key) && { match: story.event_key },

  receive(data, kind, what) {
    if (!what.event_id || what.event_id !== data.story.event_id) return null;
    data.news = true;
    return 'load';
  },

  view({ story }, place, page) {
    return h('div', null,
      h('h1', { tabindex: -1 }, h('span', { class: 'quiet' }, `${text('event')} `),
        story.event_key),
      h('p', { class: 'verdict' }, stateText(story)),
      dead(story),
      h('ol', { class: 'steps' }, story.steps.map(stepView), story.next.map(nextView)),
      story.deliveries.length ? [h('h2', null, text('event.in_store')), inStore(story)] : null,
      h('h2', null, text('event.known')),
      known(story),
      body(story, place, page));
  },
};

/** Whether it is settled and has no dead letter. */
function isOver(story) {
  return !story.next.length && story.deliveries.every((each) => each.state !== 'dead');
}

/** Its state, in a sentence. */
function stateText(story) {
  const requests = story.steps.filter((step) => step.what === 'request');
  const last = requests.at(-1);
  if (story.deliveries.some((each) => each.state === 'dead')) return text('event.dead');
  if (story.next.length) return clockOf(story, last);
  if (story.steps.some((step) => step.what === 'unmatched')) return text('event.unmatched');
  if (['closed', 'ended'].includes(story.stage) || last?.code === '000') {
    return text('event.settled');
  }
  return text('event.unknown');
}

/** EBaaS's schedule. */
function clockOf(story, last) {
  const due = story.next.find((each) => each.what === 'request');
  const ends = story.next.find((each) => each.what === 'given_up');
  if (!due) return text('event.queued');
  const key = Date.parse(due.at) > routerTime() ? 'event.clock' : 'event.clock_late';
  return [textNodes(key, { n: last?.request ?? due.number - 1, of: last?.of ?? '?',
    age: ago(due.at) }), ends ? textNodes('event.clock_ends', { age: ago(ends.at) }) : null];
}

function dead(story) {
  const letters = story.deliveries.filter((each) => each.state === 'dead');
  if (!letters.length) return null;
  return h('p', null, h('a', { class: 'button',
    href: linkTo('dead', null, { event: story.event_id }) },
  text('event.see_dead', { n: letters.length })));
}

function stepView(step) {
  switch (step.what) {
    case 'request':
    case 'unmatched':
      return line(step, requestView(step), step.code === '000' ? 'good' : 'bad',
        step.targets.length ? attempts(step.targets) : null);
    case 'acted':
      return line(step, text('step.acted', { verb: text(`done.${step.verb}`), who: step.who,
        targets: (step.targets ?? []).join(text('comma')), n: step.deliveries }), 'acted');
    default:
      return line(step, [lateText(step), text('gap'), targetLink(step.target), text('colon'),
        resultOf(step),
        step.ms === null ? null : h('span', { class: 'quiet' }, ` · ${milliseconds(step.ms)}`),
        step.attempt ? h('span', { class: 'note' }, text('event.attempt', { n: step.attempt }))
          : null,
        unrecorded(step)],
      step.reason === 'acknowledged' ? 'good' : 'bad');
  }
}

function line(step, words, kind, more) {
  return h('li', { class: kind },
    h('time', { datetime: step.at, title: step.at }, clock(step.at)),
    h('div', null, h('p', null, words), more));
}

function requestView(step) {
  const notes = [
    step.what === 'unmatched' ? text('no_route') : null,
    step.cause ? text('step.seen_before', { cause: isKnown(`cause.${step.cause}`)
      ? text(`cause.${step.cause}`) : step.cause }) : null,
    step.unqueued ? text('step.unqueued') : null,
    step.routes.length ? text('step.routes', { routes: step.routes.join(text('comma')) }) : null,
  ].filter(Boolean);
  return [
    step.request ? text('step.request', { n: step.request, of: step.of ?? '?' })
      : text('step.a_request'),
    step.code ? textNodes('step.told', { code: h('b', null, step.code) }) : text('step.gone'),
    step.ms === null ? null : h('span', { class: 'quiet' }, ` · ${milliseconds(step.ms)}`),
    unrecorded(step),
    step.first_at ? h('span', { class: 'note' },
      textNodes('step.first_at', { at: clock(step.first_at) })) : null,
    notes.map((note) => h('span', { class: 'note' }, note)),
  ];
}

function unrecorded(step) {
  return step.unrecorded
    ? h('span', { class: 'note' }, text('step.unrecorded', { why: step.unrecorded })) : null;
}

/** A row for each attempt, with its duration beside the longest. */
function attempts(targets) {
  const longest = Math.max(1, ...targets.map((each) => each.ms ?? 0));
  const columns = [[text('target'), 'name'], [text('route.as')], [text('event.took')],
    [text('event.how')]];
  return table(text('event.attempts'), columns, targets.map((each) => ({
    key: each.target,
    kind: each.reason && each.reason !== 'acknowledged' ? 'wrong' : null,
    cells: [
      targetLink(each.target),
      each.as ? text(`as.${each.as}`) : '',
      each.ms === null ? null : [milliseconds(each.ms), s('svg', { class: 'took',
        viewBox: '0 0 100 4', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      s('rect', { width: Math.max(1, (each.ms / longest) * 100), height: 4 }))],
      [resultOf(each), each.attempt ? h('span', { class: 'note' },
        text('event.attempt', { n: each.attempt })) : null,
      each.joined ? h('span', { class: 'note' }, text('event.joined')) : null,
        each.late ? h('span', { class: 'note' }, text('event.late')) : null],
    ],
  })), 'attempts');
}

function lateText(step) {
  if (step.what === 'attempt' && step.request) return text('step.of_request', { n: step.request });
  const byRecovery = step.what === 'attempt' ? !step.retry
    : step.what === 'retried' && step.by === 'recovery';
  if (byRecovery) return text('step.recovery');
  const key = `step.${step.what}`;
  return isKnown(key) ? text(key, { n: step.retry ?? 0 }) : step.what;
}

function nextView(next) {
  const words = text(`next.${next.what}`, { n: next.number ?? 0, target: next.target ?? '' });
  const note = next.in_flight ? 'next.in_flight' : next.paused && 'reason.paused';
  return h('li', { class: 'next' }, ago(next.at), h('div', null,
    h('p', null, words, note ? h('span', { class: 'note' }, text(note)) : null)));
}

function inStore(story) {
  const columns = [[text('target'), 'name'], [text('delivery.state')], [text('reason')],
    [text('delivery.retries'), 'number'], [text('delivery.changed'), 'number']];
  return table(text('event.in_store'), columns, story.deliveries.map((each) => ({
    key: each.target,
    cells: [targetLink(each.target), text(`delivery.${each.state}`), reasonText(each.reason),
      number(each.retries), ago(each.changed_at)],
  })));
}

function known(story) {
  const rows = [
    ['event.id', story.event_id],
    ['event.request_id', story.request_id],
    ['event.trace_id', story.trace_id],
    ['event.changes', story.changes.length ? story.changes.map((each) =>
      (typeof each === 'string' ? each : JSON.stringify(each))).join(', ') : null],
    ['event.sha256', story.sha256],
    ['event.bytes', story.bytes === null ? null : number(story.bytes)],
  ];
  return h('dl', { class: 'ids' }, rows.filter(([, value]) => value)
    .map(([key, value]) => [h('dt', null, text(key)), h('dd', null, h('code', null, value))]));
}

function body(story, place, page) {
  if (!page.may('bodies')) return null;
  if (!place.query.body) {
    return h('p', null, h('a', { class: 'button', href: linkTo('events', place.name,
      { body: 'true' }) }, text('event.show_body')));
  }
  return [h('h2', null, text('event.body')), story.body ? h('pre', { tabindex: 0 }, story.body)
    : h('p', { class: 'quiet' }, text('event.no_body'))];
}
