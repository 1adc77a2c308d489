// Overview: the health of the service, and every problem.

import { ask } from '../api.js';
import { eventsChart, latencyChart } from '../charts.js';
import { h } from '../elements.js';
import { ago, milliseconds, number, time } from '../figures.js';
import { linkTo } from '../place.js';
import { list, table } from '../table.js';
import { badge, isTroubled, targetLink, troubles, waitingText, problemsView } from '../targets.js';
import { causeText, text, textNodes } from '../language.js';

/** Log events that change a target's state. */
const CHANGES = new Set(['failing', 'recovered', 'breaker', 'dead_letter', 'reload',
  'target_paused', 'target_resumed']);

export const now = {
  title: () => text('now'),

  async load() {
    const [status, minutes, { targets }] = await Promise.all([
      ask('status'), ask('minutes'), ask('targets')]);
    return { status, minutes, targets };
  },

  receive: (data, kind) => CHANGES.has(kind) && 'load',

  wrong: (data) => wrongs(data).length,

  view(data, place, page) {
    const wrong = wrongs(data);
    return h('div', null,
      h('h1', { tabindex: -1, class: wrong.length ? 'bad' : 'good' },
        wrong.length ? text('now.wrong', { n: wrong.length }) : text('now.well')),
      wrong.length ? list('wrongs', wrong.map(drawn)) : null,
      data.targets.filter((target) => !isTroubled(target)).map(waiting),
      h('div', { class: 'charts' },
        eventsChart(text(page.isTeams() ? 'target.attempts' : 'now.events'), data.minutes),
        latencyChart(text('now.latency'), data.minutes)),
      h('h2', null, text('targets')),
      data.targets.length ? targetTable(data.targets)
        : h('p', { class: 'quiet' }, text('now.no_targets')),
      differences(data.status.observed),
      about(data.status));
  },
};

/** All problems, each with its causes and what to do: those of the service first. */
function wrongs({ status, targets }) {
  const shown = targets.map((target) => target.name);
  const service = status.causes
    .filter((cause) => !shown.includes(cause.params.target))
    .map((cause) => ({
      key: `${cause.check} ${cause.text}`,
      subject: text(`check.${cause.check}`),
      all: [[withTimes(causeText(cause)), text(`do.check.${cause.check}`)]],
    }));
  const theirs = targets.filter(isTroubled).map((target) => ({
    key: `target ${target.name}`,
    state: target.state,
    subject: targetLink(target.name),
    all: troubles(target),
    waits: waitingText(target),
  }));
  return [...service, ...theirs];
}

/** Replaces times in UTC in a sentence by local ones. */
function withTimes(sentence) {
  return sentence.split(/(\d{4}-\d\d-\d\dT[\d:.]+Z)/)
    .map((part, index) => (index % 2 ? time(part) : part));
}

function drawn(wrong) {
  return h('li', { 'data-key': wrong.key, 'data-state': wrong.state },
    h('b', { class: 'subject' }, wrong.subject), problemsView(wrong.all, wrong.waits));
}

/** Deliveries that wait at a healthy target. */
function waiting(target) {
  const waits = waitingText(target);
  return waits && h('p', { class: 'quiet' }, targetLink(target.name), text('colon'), waits);
}

function targetTable(targets) {
  const columns = [
    [text('target'), 'name'], [text('target.state'), 'short bare'],
    [text('hour.attempts'), 'number'], [text('hour.failed'), 'number'], [text('hour.p99'), 'number'],
    [text('target.in_flight'), 'number'], [text('target.unsettled'), 'number'],
    [text('target.last_acknowledged'), 'number'],
  ];
  return table(text('targets'), columns, targets.map((target) => ({
    key: target.name,
    cells: [
      [targetLink(target.name), target.owner ? h('span', { class: 'owner' }, target.owner) : null],
      badge(target.state),
      number(target.hour.attempts),
      target.hour.failed ? h('b', { class: 'bad' }, number(target.hour.failed)) : '0',
      milliseconds(target.hour.p99_ms),
      `${number(target.in_flight)} / ${number(target.limit)}`,
      unsettled(target),
      ago(target.last_acknowledged),
    ],
  })));
}

/** The number of deliveries by state, as links. */
export function unsettled(target) {
  const parts = ['dead', 'queued', 'awaiting'].filter((state) => target.unsettled[state])
    .map((state) => h('a', {
      href: linkTo('dead', null, { target: target.name, state: state === 'dead' ? '' : state }),
      class: state === 'dead' ? 'bad' : null,
    }, text(`count.${state}`, { n: target.unsettled[state] })));
  return parts.length ? parts.map((part, index) => [index ? text('comma') : '', part]) : '0';
}

/** How EBaaS's calls differ from routes.yaml. A team does not see it. */
function differences(observed) {
  if (!observed?.differences.length) return null;
  return [h('h2', null, text('now.observed')),
    observed.differences.map((each) => h('p', null, causeText(each))),
    h('p', null, textNodes('now.observed_since', { since: time(observed.since) }),
      observed.yaml ? text('now.observed_yaml') : null),
    observed.yaml ? h('pre', { tabindex: 0 }, observed.yaml) : null];
}

/** The version and the configuration. A team sees only a part of it. */
function about(status) {
  const { configuration, requests } = status;
  return h('p', { class: 'quiet about' }, text('now.version', { version: status.version }),
    configuration?.hash ? [' · ', textNodes('now.configuration', {
      hash: h('a', { href: linkTo('routes') }, configuration.hash.slice(0, 12)),
      age: ago(configuration.since) })] : null,
    requests ? [' · ', text('now.in_flight', { n: requests.in_flight, limit: requests.limit })]
      : null,
    ' · ', textNodes('now.at', { at: time(status.at) }));
}
