// Charts of an hour by the minute, as SVG. The pointer or the arrow keys show a minute's numbers.

import { go } from './state.js';
import { milliseconds, minute, number, text } from './text.js';
import { html, useState } from './vendor/preact.js';

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
    drawn=${[bars(events, failed, top), retries && line('p99', retries, top)]} />`;
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

function round(value) {
  return Math.round(value * 100) / 100;
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}
