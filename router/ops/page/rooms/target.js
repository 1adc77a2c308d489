// A target: its troubles, its figures, its routes, and its pause.

import './words.js';
import { act, ask } from '../api.js';
import { linkTo, milliseconds, problemText, text, textNodes } from '../logic.js';
import { Dialog, EventsChart, LatencyChart, Room, ago, badge, joined, may, patterns, problemsView,
  queryOf, quiet, reasonBars, reasonText, session, table, time, troubles, unsettled, useLoad,
  waitingText } from '../parts.js';
import { html, useState } from '../vendor/preact.js';

/** The durations of a pause to choose from. */
const PAUSES = ['10m', '30m', '1h', '4h', '1d'];

/** How often and how many times the state is requested until a change of a pause is in force. */
const CHANGED = 300;
const TRIES = 20;

export default function Target({ place: { name } }) {
  const path = `targets/${encodeURIComponent(name)}`;
  const loaded = useLoad(() => ask(path), path);
  const eventsOf = (since, until) => linkTo('events', null, { target: name, since, until });
  return html`<${Room} title=${name} loaded=${loaded}
    heading=${loaded.data && [name, ' ', badge(loaded.data.state)]}
    receive=${(kind, what) => what.target === name && kind !== 'event' && loaded.soon()}>
    ${(it) => {
      const found = troubles(it);
      const waits = waitingText(it);
      const minutes = { ...it.minutes, events: it.minutes.attempts };
      return html`
        ${(found.length > 0 || waits) && html`<div class="panel ${it.state}">
          ${problemsView(found, waits)}</div>`}
        ${may('pause') && html`<${Pausing} target=${it} path=${path} loaded=${loaded} />`}
        ${session.you?.tokens === false && quiet(text('read_only'))}
        <div class="charts">
          <${EventsChart} title=${text('target.attempts')} minutes=${minutes} open=${eventsOf} />
          <${LatencyChart} title=${text('now.latency')} minutes=${minutes} open=${eventsOf} />
        </div>
        <div class="halves">
          <section><h2>${text('target.reasons')}</h2>
            ${it.hour.attempts ? reasonBars(
              { acknowledged: it.hour.acknowledged, ...it.hour.reasons }, reasonText)
              : quiet(text('chart.nothing'))}</section>
          <section><h2>${text('target.figures')}</h2>${figures(it)}</section>
        </div>
        <h2>${text('target.gets')}</h2>
        ${it.routes.length ? gets(it) : quiet(text('target.gets_nothing'))}
        <p class="links">${joined([
          ['events', { target: name, since: '1h', failed: 'true' }, 'failures'],
          ['events', { target: name }, 'events'], ['dead', { target: name }, 'dead'],
        ].map(([room, query, words]) => html`<a href=${linkTo(room, null, query)}>${text(words)}
        </a>`), ' · ')}</p>`;
    }}<//>`;
}

function figures(it) {
  const rows = [
    ['target.url', html`<code>${it.url}</code>`],
    ['target.owner', it.owner],
    ['target.last_acknowledged', ago(it.last_acknowledged)],
    ['target.in_flight', textNodes('target.in_flight_of', { n: it.in_flight, limit: it.limit,
      waiting: it.waiting })],
    ['target.unsettled', unsettled(it)],
    ['hour.p50', `${milliseconds(it.hour.p50_ms)} / ${milliseconds(it.hour.p99_ms)}`],
    ['target.rate', it.rate && text('target.rate_is', it.rate)],
    ['target.certificate', it.certificate_ends && [time(it.certificate_ends), ' (',
      ago(it.certificate_ends), ')']],
  ];
  return html`<dl>${rows.filter(([, value]) => value).map(([key, value]) => html`
    <dt>${text(key)}</dt><dd>${value}</dd>`)}</dl>`;
}

function gets(it) {
  const columns = [[text('route'), 'name'], [text('route.match')], [text('route.as')]];
  return table(text('target.gets'), columns, it.routes.map((route) => ({
    key: `${route.file} ${route.name} ${route.as}`,
    cells: [
      html`<a href=${linkTo('routes', null, { find: route.name })}>${route.name}</a>`,
      patterns(route),
      text(`as.${route.as}`),
    ],
  })));
}

/** The button to pause or to resume. It changes together with the state, once both are in force. */
function Pausing({ target: it, path, loaded }) {
  const [isOpen, open] = useState(false);
  const [result, tell] = useState(null);
  const change = async (verb, what) => {
    tell({ isBusy: true, words: text('looking') });
    try {
      const { paused } = await act(`${path}/${verb}`, what);
      for (let tries = 0; tries < TRIES; tries += 1) {
        const now = await ask(path);
        if ((now.paused?.by === 'person') === (paused?.by === 'person')) {
          loaded.update(now);
          break;
        }
        await new Promise((resolve) => { setTimeout(resolve, CHANGED); });
      }
      tell({ kind: 'good', words: text(`${verb}.done`) });
    } catch (error) {
      tell({ kind: 'bad', words: problemText(error) });
    }
  };
  const isPaused = it.paused?.by === 'person';
  return html`<div class="acts">
    <button type="button" disabled=${result?.isBusy}
      onClick=${() => (isPaused ? change('resume', {}) : open(true))}>
      ${text(isPaused ? 'resume' : 'pause')}</button>
    ${result && html`<p role="status" class=${result.kind}>${result.words}</p>`}
    ${isOpen && html`<${Dialog} label=${text('pause.do', { target: it.name })}
      close=${() => open(false)}>
      <form onSubmit=${(event) => {
        event.preventDefault();
        const what = queryOf(event.currentTarget);
        event.currentTarget.parentNode.close();
        change('pause', what);
      }}>
        <p>${text('pause.means')}</p>
        <label>${text('pause.until')}<select name="until">${PAUSES.map((each) =>
          html`<option value=${each}>${text(`pause.${each}`)}</option>`)}</select></label>
        <label class="wide">${text('pause.because')}
          <input name="because" required maxlength="200" autocomplete="off" /></label>
        <button class="strong">${text('pause.do', { target: it.name })}</button>
      </form><//>`}</div>`;
}
