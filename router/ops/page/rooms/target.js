// A target: its problems, its figures, its routes, and its pause.

import { act, ask } from '../api.js';
import { eventsChart, latencyChart, reasonBars } from '../charts.js';
import { h } from '../elements.js';
import { ago, milliseconds, number, time } from '../figures.js';
import { linkTo, queryOf } from '../place.js';
import { table } from '../table.js';
import { badge, reasonText, troubles, waitingText, problemsView } from '../targets.js';
import { problemText, text, textNodes } from '../language.js';
import { patterns } from './routes.js';
import { unsettled } from './now.js';

/** The durations of a pause to choose from. */
const PAUSES = ['10m', '30m', '1h', '4h', '1d'];

export const target = {
  title: (place) => place.name,

  async load(place, before) {
    return { target: await ask(`targets/${encodeURIComponent(place.name)}`), result: before?.result };
  },

  receive: (data, kind, what) => what.target === data.target.name && kind !== 'event' && 'load',

  view(data, place, page) {
    const { target: it } = data;
    const found = troubles(it);
    const waits = waitingText(it);
    return h('div', null,
      h('h1', { tabindex: -1 }, it.name, ' ', badge(it.state)),
      found.length || waits ? h('ul', { class: 'wrongs' },
        h('li', { 'data-state': it.state }, problemsView(found, waits))) : null,
      page.may('pause') ? pausing(data, page) : null,
      page.isReadOnly() ? h('p', { class: 'quiet' }, text('read_only')) : null,
      h('div', { class: 'charts' },
        eventsChart(text('target.attempts'), { at: it.minutes.at, events: it.minutes.attempts,
          failed: it.minutes.failed }),
        latencyChart(text('now.latency'), it.minutes)),
      h('div', { class: 'halves' },
        h('section', null, h('h2', null, text('target.reasons')),
          it.hour.attempts ? reasonBars(
            { acknowledged: it.hour.acknowledged, ...it.hour.reasons }, reasonText)
            : h('p', { class: 'quiet' }, text('chart.nothing'))),
        h('section', null, h('h2', null, text('target.figures')), figures(it))),
      h('h2', null, text('target.gets')),
      gets(it),
      h('p', { class: 'links' },
        h('a', { href: linkTo('events', null, { target: it.name, since: '1h', failed: 'true' }) },
          text('target.failed_events')), ' · ',
        h('a', { href: linkTo('events', null, { target: it.name }) }, text('target.events')),
        ' · ',
        h('a', { href: linkTo('dead', null, { target: it.name }) }, text('target.dead'))));
  },
};

function figures(it) {
  const rows = [
    ['target.url', h('code', null, it.url)],
    ['target.owner', it.owner],
    ['target.last_acknowledged', ago(it.last_acknowledged)],
    ['target.in_flight', textNodes('target.in_flight_of', { n: it.in_flight, limit: it.limit,
      waiting: it.waiting })],
    ['target.unsettled', unsettled(it)],
    ['hour.p50', `${milliseconds(it.hour.p50_ms)} / ${milliseconds(it.hour.p99_ms)}`],
    ['target.rate', it.rate ? text('target.rate_is', it.rate) : null],
    ['target.breaker', it.breaker ? breaker(it.breaker) : null],
    ['target.certificate', it.certificate_ends ? [time(it.certificate_ends), ' (',
      ago(it.certificate_ends), ')'] : null],
  ];
  return h('dl', null, rows.filter(([, value]) => value)
    .map(([key, value]) => [h('dt', null, text(key)), h('dd', null, value)]));
}

function breaker(states) {
  return Object.entries(states).filter(([, count]) => count)
    .map(([state, count]) => text(`breaker.${state}`, { n: number(count) })).join(text('comma'));
}

function gets(it) {
  if (!it.routes.length) return h('p', { class: 'quiet' }, text('target.gets_nothing'));
  const columns = [[text('route'), 'name'], [text('route.match')], [text('route.as')]];
  return table(text('target.gets'), columns, it.routes.map((route) => ({
    key: route.name,
    cells: [
      h('a', { href: linkTo('routes', null, { find: route.name }) }, route.name),
      patterns(route),
      text(`as.${route.as}`),
    ],
  })));
}

function pausing(data, page) {
  const { target: it, result } = data;
  const path = `targets/${encodeURIComponent(it.name)}`;
  const tell = async (verb, what) => {
    try {
      const { paused } = await act(`${path}/${verb}`, what);
      data.result = { good: true, words: `${verb}.done` };
      // Shown at once, though the router needs up to a second.
      Object.assign(it, { paused, state: paused ? 'paused' : it.state });
    } catch (error) {
      data.result = { words: problemText(error) };
    }
    page.draw();
    page.soon();
  };
  const answer = result && h('p', { role: 'status', class: result.good ? 'good' : 'bad' },
    result.good ? text(result.words) : result.words);
  if (it.paused?.by === 'person') {
    return h('div', { class: 'acts' },
      h('button', { type: 'button', onclick: () => tell('resume', {}) }, text('resume')), answer);
  }
  return h('div', { class: 'acts' },
    h('details', null, h('summary', { class: 'button' }, text('pause')),
      h('form', { class: 'panel', onsubmit: (event) => {
        event.preventDefault();
        event.currentTarget.parentNode.open = false;
        tell('pause', queryOf(event.currentTarget));
      } },
      h('p', null, text('pause.means')),
      h('label', null, text('pause.until'), h('select', { name: 'until' },
        PAUSES.map((each) => h('option', { value: each }, text(`pause.${each}`))))),
      h('label', { class: 'wide' }, text('pause.because'),
        h('input', { name: 'because', required: true, maxlength: 200, autocomplete: 'off' })),
      h('button', { class: 'strong' }, text('pause.do', { target: it.name })))), answer);
}
