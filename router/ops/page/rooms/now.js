// Overview: every trouble, the worst first; the last hour; all targets.

import { EventsChart, LatencyChart, sparkline } from '../charts.js';
import { failureRate, isTroubled, linkTo, roleOf } from '../logic.js';
import { Long, Room, ago, badge, joined, problemsView, quiet, table, targetLink, time, troubles,
  unsettled, waiting, waitingText } from '../parts.js';
import { isTeams } from '../state.js';
import { causeText, milliseconds, number, percent, text, textNodes } from '../text.js';
import { html, useState } from '../vendor/preact.js';
import { now as routerTime } from '../api.js';

/** Log events that change a target's state. */
const CHANGES = new Set(['failing', 'recovered', 'breaker', 'dead_letter', 'reload', 'unmatched',
  'target_paused', 'target_resumed']);

export function Now({ loaded }) {
  const wrong = loaded.data?.troubles.filter(({ severity }) => severity !== 'notice').length;
  return html`<${Room} title=${text('now')} loaded=${loaded} kind=${wrong ? 'bad' : 'good'}
    heading=${loaded.data && (wrong ? text('now.wrong', { n: wrong }) : text('now.well'))}
    receive=${(kind) => CHANGES.has(kind) && loaded.soon()}>
    ${(data) => html`
      <div class="charts">
        <${EventsChart} minutes=${data.minutes} open=${eventsOf}
          title=${text(isTeams() ? 'target.attempts' : 'now.events')} />
        <${LatencyChart} minutes=${data.minutes} open=${eventsOf} title=${text('now.latency')} />
      </div>
      ${data.troubles.length > 0 && html`<${Troubles} all=${data.troubles} />`}
      ${data.targets.map(waiting)}
      <${Targets} all=${data.targets} />
      ${differences(data.status.observed)}
      ${about(data.status)}`}
  <//>`;
}

/** The link to the events of a minute. */
function eventsOf(since, until) {
  return linkTo('events', null, { since, until });
}

// Troubles, a line each

function Troubles({ all }) {
  const [opened, open] = useState(new Set());
  const turn = (key) => {
    const next = new Set(opened);
    if (!next.delete(key)) next.add(key);
    open(next);
  };
  const columns = [[text('trouble'), 'name'], [text('severity'), 'short bare'], [text('reason')],
    [text('route.as'), 'short'], [text('rate'), 'number'], [text('expires'), 'number'],
    [text('dead.does'), 'does']];
  return html`<${Long} items=${all}>${(shown) => table(text('troubles'), columns, shown.map(
    (trouble) => {
      const isOpen = opened.has(trouble.key);
      const { subject, label, what, role, rate, expires, action, more } = lineOf(trouble);
      return { key: trouble.key, cells: [
        [html`<button type="button" class="opener" aria-expanded=${String(isOpen)}
          aria-label=${text('details', { name: label })}
          onClick=${() => turn(trouble.key)}></button>`, subject],
        html`<span class="severity ${trouble.severity}">
          ${text(`severity.${trouble.severity}`)}</span>`,
        html`<div class="one-line">${what}</div>`, role, rate, expires, action],
      wide: isOpen && html`<div class="panel">${more}</div>` };
    }), 'troubles')}<//>`;
}

function lineOf({ cause, target }) {
  if (cause) {
    const words = withTimes(causeText(cause));
    const check = text(`check.${cause.check}`);
    return { subject: html`<b>${check}</b>`, label: check, what: words, action: wayOf(cause),
      more: problemsView([[words, text(`do.check.${cause.check}`)]]) };
  }
  const all = troubles(target);
  const role = roleOf(target);
  return {
    subject: [targetLink(target.name), target.owner
      && html`<span class="owner">${target.owner}</span>`],
    label: target.name,
    what: all[0]?.[0] ?? badge(target.state),
    role: role && text(`as.${role}`),
    rate: [percent(failureRate(target)), ' ', sparkline(target.hour.failed_minutes ?? [])],
    expires: expiryOf(target.expires_at),
    action: target.state === 'dead_letters'
      ? way('dead', null, { target: target.name }, target.name)
      : target.state === 'paused' ? way('targets', target.name, {}, target.name, 'resume')
        : way('events', null, { target: target.name, since: '1h', failed: 'true' }, target.name,
          'failures'),
    more: [badge(target.state), problemsView(all, waitingText(target))],
  };
}

/** A link that helps with a trouble. */
function way(room, name, query, label, words = room) {
  return html`<a class="button" href=${linkTo(room, name, query)}
    aria-label="${text(words)}${text('colon')}${label}">${text(words)}</a>`;
}

function wayOf({ check, code, params }) {
  const label = text(`check.${check}`);
  if (code === 'unmatched') return way('routes', null, { key: params.key }, label, 'explain.short');
  if (check === 'callbacks') return way('events', null, { failed: 'true' }, label);
  if (check === 'configuration') return way('routes', null, {}, label);
  return way(check === 'targets' ? 'dead' : 'nodes', null, {}, label);
}

function expiryOf(at) {
  if (!at) return null;
  return Date.parse(at) > routerTime() ? ago(at) : text('expires.next');
}

/** Replaces times in UTC in a sentence by local ones. */
function withTimes(sentence) {
  return sentence.split(/(\d{4}-\d\d-\d\dT[\d:.]+Z)/)
    .map((part, index) => (index % 2 ? time(part) : part));
}

// Targets without trouble

function Targets({ all }) {
  if (!all.length) return [html`<h2>${text('targets')}</h2>`, quiet(text('now.no_targets'))];
  const targets = all.filter((target) => !isTroubled(target));
  const columns = [
    [text('target'), 'name'], [text('target.state'), 'short bare'],
    [text('hour.attempts'), 'number'], [text('hour.failed'), 'number'],
    [text('hour.p99'), 'number'], [text('target.in_flight'), 'number'],
    [text('target.unsettled'), 'number'], [text('target.last_acknowledged'), 'number'],
  ];
  return targets.length > 0 && [
    html`<h2>${text(targets.length < all.length ? 'now.others' : 'targets')}</h2>`,
    table(text('targets'), columns, targets.map((target) => ({
      key: target.name,
      cells: [
        [targetLink(target.name), target.owner
          && html`<span class="owner">${target.owner}</span>`],
        badge(target.state),
        number(target.hour.attempts),
        target.hour.failed ? html`<b class="bad">${number(target.hour.failed)}</b>` : '0',
        milliseconds(target.hour.p99_ms),
        `${number(target.in_flight)} / ${number(target.limit)}`,
        unsettled(target),
        ago(target.last_acknowledged),
      ],
    })))];
}

/** How EBaaS's calls differ from routes.yaml. A team does not see it. */
function differences(observed) {
  if (!observed?.differences.length) return null;
  return [html`<h2>${text('now.observed')}</h2>`,
    observed.differences.map((each) => html`<p>${causeText(each)}</p>`),
    html`<p>${textNodes('now.observed_since', { since: time(observed.since) })}
      ${observed.yaml && text('now.observed_yaml')}</p>`,
    observed.yaml && html`<pre tabindex="0">${observed.yaml}</pre>`];
}

/** The version and the configuration. A team sees only a part of it. */
function about({ configuration, requests, version, at }) {
  return html`<p class="quiet about">${joined([
    text('now.version', { version }),
    configuration?.hash && textNodes('now.configuration', {
      hash: html`<a href=${linkTo('routes')}>${configuration.hash.slice(0, 12)}</a>`,
      age: ago(configuration.since) }),
    requests && text('now.in_flight', { n: requests.in_flight, limit: requests.limit }),
    textNodes('now.at', { at: time(at) }),
  ].filter(Boolean), ' · ')}</p>`;
}
