// Charts of an hour by the minute, as SVG. The pointer or the arrow keys show a minute's numbers.

import { h, s } from './elements.js';
import { milliseconds, minute, number } from './figures.js';
import { text, textNodes } from './language.js';

const HEIGHT = 40;

/** A bar is at least so high, so that a single event can be seen. */
const LEAST = 1.5;

/** Events per minute: the successful ones, and below them the failed ones. */
export function eventsChart(title, { at, events, failed }) {
  const top = Math.max(1, ...events);
  const label = (index) => text('chart.events', { n: events[index], failed: failed[index] });
  const sums = { n: sum(events), failed: sum(failed) };
  return chart({
    title, at, label, count: events.length, top: number(top),
    summary: text('chart.events', sums),
    key: [['ok', textNodes('chart.key.fine')], ['bad', textNodes('chart.key.failed')]],
    drawn: bars(events, failed, top),
  });
}

/** The lower line is p50, the upper one p99. */
export function latencyChart(title, { at, p50_ms: half, p99_ms: most }) {
  const known = most.filter((each) => each !== null);
  const top = Math.max(1, ...known);
  const label = (index) => (most[index] === null ? text('chart.nothing')
    : text('chart.latency', { p50: milliseconds(half[index]), p99: milliseconds(most[index]) }));
  return chart({
    title, at, label, count: most.length, top: milliseconds(top),
    summary: known.length ? text('chart.slowest', { p99: milliseconds(top) })
      : text('chart.nothing'),
    key: [['p50', 'p50'], ['p99', 'p99']],
    drawn: [line('p99', most, top), line('p50', half, top)],
  });
}

/** Reasons by their number, the most frequent first. */
export function reasonBars(reasons, nameOf) {
  const rows = Object.entries(reasons).filter(([, count]) => count)
    .sort(([, one], [, other]) => other - one);
  const top = Math.max(1, ...rows.map(([, count]) => count));
  return h('ul', { class: 'reasons' }, rows.map(([reason, count]) => h('li', null,
    h('span', null, nameOf(reason)),
    s('svg', { viewBox: '0 0 100 4', preserveAspectRatio: 'none', 'aria-hidden': 'true' },
      s('rect', { class: reason === 'acknowledged' ? 'ok' : 'bad',
        width: Math.max(0.7, (count / top) * 100), height: 4 })),
    h('b', null, number(count)))));
}

function chart({ title, at, label, count, top, summary, key, drawn }) {
  let pointed = count - 1;
  const show = (figure, index) => {
    pointed = Math.min(count - 1, Math.max(0, index));
    figure.querySelector('output').textContent = `${minute(at, pointed)} · ${label(pointed)}`;
    const cursor = figure.querySelector('.cursor');
    cursor.setAttribute('x', pointed);
    cursor.classList.add('on');
  };
  const hide = (figure) => {
    figure.querySelector('output').textContent = summary;
    figure.querySelector('.cursor').classList.remove('on');
  };
  const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -count, End: count };
  return h('figure', { class: 'chart' },
    h('figcaption', null, h('b', null, title), ' ', h('output', null, summary)),
    h('div', {
      class: 'plot', tabindex: 0, role: 'img', 'aria-label': `${title}: ${summary}`,
      onpointermove: (event) => {
        const box = event.currentTarget.getBoundingClientRect();
        const part = (event.clientX - box.left) / box.width;
        show(event.currentTarget.parentNode, Math.floor(part * count));
      },
      onpointerleave: (event) => hide(event.currentTarget.parentNode),
      onkeydown: (event) => {
        if (event.key in steps) {
          event.preventDefault();
          show(event.currentTarget.parentNode, pointed + steps[event.key]);
        }
      },
    }, s('svg', { viewBox: `0 0 ${count} ${HEIGHT}`, preserveAspectRatio: 'none' },
      s('rect', { class: 'cursor', width: 1, height: HEIGHT }), drawn),
    h('span', { class: 'top' }, top)),
    h('div', { class: 'axis' },
      h('span', null, minute(at, 0)),
      h('span', { class: 'key' }, key.map(([kind, words]) => [h('i', { class: kind }), words])),
      h('span', null, minute(at, count - 1))));
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
  const path = (kind, parts) => s('path', { class: kind, d: parts.join('') });
  return [path('ok', fine), path('bad', bad)];
}

/** A minute without a number is a gap; one between gaps is a dash. */
function line(kind, values, top) {
  const path = values.map((value, index) => {
    if (value === null) return '';
    const y = round(HEIGHT - 1 - (value / top) * (HEIGHT - 2));
    const begins = index === 0 || values[index - 1] === null;
    return begins ? `M${index + 0.1} ${y}H${index + 0.5}` : `L${index + 0.5} ${y}`;
  });
  return s('path', { class: kind, d: path.join(''), 'vector-effect': 'non-scaling-stroke' });
}

function round(value) {
  return Math.round(value * 100) / 100;
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
