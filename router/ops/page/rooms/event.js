// One event: its requests and attempts in order of time, its state, and what comes next.

import './words.js';
import { useActing } from '../acting.js';
import { ask, now as routerTime } from '../api.js';
import { Explanation, explain } from '../explaining.js';
import { clock, faultText, isKnown, linkTo, milliseconds, number, text, textNodes } from '../logic.js';
import { Copy, Room, ago, isTeams, joined, may, queryOf, quiet, reasonText, resultOf, session,
  share, table, targetLink, time, useLoad } from '../parts.js';
import { Replaying } from '../replaying.js';
import { html, useState } from '../vendor/preact.js';

/** A search is expensive: it is repeated when the stream reports this event. */
const ONCE = 86_400_000;

export default function Event({ place: { name, query } }) {
  const path = `events/${encodeURIComponent(name)}`;
  const loaded = useLoad(() => ask(path, query.body ? { body: 'true' } : {}), [name, query], ONCE);
  const { data } = loaded;
  const acting = useActing(loaded);
  const title = `${text('event')} ${name.slice(0, 8)}`;
  // A key that would be a pattern cannot be followed.
  const isFollowed = data?.event_key && !/[*?[\]]/.test(data.event_key);
  return html`<${Room} title=${title} loaded=${loaded}
    heading=${data && [html`<span class="quiet">${text('event')} </span>`, data.event_key]}
    stream=${isFollowed ? { match: data.event_key } : undefined}
    receive=${(kind, what) => data && what.event_id === data.event_id && loaded.soon()}>
    ${(story) => html`
      <p class="verdict">${stateText(story)}</p>
      <${Explain} story=${story}>
        ${may('replay') && !isTeams() && html`<${Replay} story=${story} loaded=${loaded} />`}<//>
      <ol class="steps">${story.steps.map(stepView)}${story.next.map(nextView)}</ol>
      ${story.deliveries.length > 0 && html`<h2>${text('event.in_store')}</h2>
        ${inStore(story, acting)}`}
      ${acting.dialog}
      <h2>${text('event.known')}</h2>
      ${known(story)}
      ${may('bodies') && body(story, name, query)}`}
  <//>`;
}

/** Its state, in a sentence. */
function stateText(story) {
  const last = story.steps.filter((step) => step.what === 'request').at(-1);
  if (story.deliveries.some((each) => each.state === 'dead')) return text('event.dead');
  if (story.next.length) return scheduleOf(story, last);
  if (story.steps.some((step) => step.what === 'unmatched')) return text('event.unmatched');
  if (['closed', 'ended'].includes(story.stage) || last?.code === '000') {
    return text('event.settled');
  }
  if (story.steps.some((step) => step.what === 'refused')) return text('event.refused');
  return text('event.unknown');
}

/** EBaaS's schedule. */
function scheduleOf(story, last) {
  const due = story.next.find((each) => each.what === 'request');
  const ends = story.next.find((each) => each.what === 'given_up');
  if (!due) return text('event.queued');
  const key = Date.parse(due.at) > routerTime() ? 'event.clock' : 'event.clock_late';
  return [textNodes(key, { n: last?.request ?? due.number - 1, of: last?.of ?? '?',
    age: ago(due.at) }), ends && textNodes('event.clock_ends', { age: ago(ends.at) })];
}

/** Shows which routes it matches now: by its whole body, if the reader may see that. */
function Explain({ story, children }) {
  const [result, show] = useState(null);
  const run = async () => {
    const { body: own = null } = may('bodies') && !story.body
      ? await ask(`events/${encodeURIComponent(story.event_id || story.request_id)}`,
        { body: 'true' }) : story;
    show(await explain(own ?? story.event_key));
  };
  return html`<div class="acts"><button type="button" aria-expanded=${String(Boolean(result))}
    onClick=${() => (result ? show(null) : run().catch((error) => show({ error: error.message })))}>
    ${text('explain.short')}</button>${children}</div>
    ${result && html`<${Explanation} result=${result} />`}`;
}

/** Replays it from the archive, to one or all of its targets; a refused one by its own room. */
function Replay({ story, loaded }) {
  const [isOpen, open] = useState(false);
  const [targets, choose] = useState(null);
  const known = [...new Set(story.steps.flatMap((step) => (step.targets ?? [])
    .map((each) => each.target ?? each)))].sort();
  if (!known.length || !story.steps.some(({ what }) => what === 'request')) {
    return html`<a class="button" href=${linkTo('refused', null, { match: story.event_key })}>
      ${text('refused')}</a>`;
  }
  return html`<button type="button" onClick=${() => open(true)}>${text('again')}</button>
    ${isOpen && html`<${Replaying} label=${text('again')} path="archive/replay"
      selections=${targets?.map((target) => ({ target, event: story.event_id, anew: true }))}
      view=${(previews, carryOut) => wouldView(targets, previews, carryOut)}
      close=${() => { open(false); choose(null); loaded.reload(); }}>
      <form onSubmit=${(event) => {
        event.preventDefault();
        const { target } = queryOf(event.currentTarget);
        choose(target ? [target] : known);
      }}><label>${text('again.to')}<select name="target">
        ${known.length > 1 && html`<option value="">${text('again.all', { n: known.length })}
        </option>`}
        ${known.map((name) => html`<option value=${name}>${name}</option>`)}</select></label>
        <button class="strong">${text('again.look')}</button></form><//>`}`;
}

function wouldView(targets, previews, carryOut) {
  const would = targets.filter((_, index) => previews[index].number);
  const why = ({ left_out: out }) => text(out.without_body ? 'again.without_body'
    : 'again.no_line');
  const held = would.map((name) => [name, heldBy(session.targets.get(name))])
    .filter(([, by]) => by);
  return html`
    ${would.length > 0 && html`<p><b>${text('again.would',
      { targets: would.join(text('comma')) })}</b></p>`}
    ${targets.map((target, index) => !previews[index].number && html`<p>${text('again.none',
      { target, why: why(previews[index]) })}</p>`)}
    ${held.map(([target, by]) => html`<p class="warning">${text(`held.${by}`, { target })}</p>`)}
    ${would.length > 0 && [quiet(text('dead.replay_means')), quiet(text('again.retried')),
      html`<button type="button" class="strong" onClick=${carryOut}>
        ${text('do.replay', { n: would.length })}</button>`]}`;
}

/** Why a delivery to a target may have to wait or fail. */
function heldBy(target) {
  if (target?.paused) return 'paused';
  if (target?.breaker?.open || target?.breaker?.half_open) return 'breaker_open';
  return target?.state === 'failing' ? 'failing' : null;
}

function stepView(step) {
  switch (step.what) {
    case 'request':
    case 'unmatched':
    case 'refused':
      return line(step, requestView(step), step.code === '000' ? 'good' : 'bad',
        step.targets.length > 0 && attempts(step.targets));
    case 'acted':
      return line(step, text('step.acted', { verb: text(`done.${step.verb}`), who: step.who,
        targets: (step.targets ?? []).join(text('comma')), n: step.deliveries }));
    default:
      return line(step, [lateText(step), text('gap'), targetLink(step.target), text('colon'),
        resultOf(step), took(step), attemptNote(step), unrecorded(step)],
      step.reason === 'acknowledged' ? 'good' : 'bad');
  }
}

function line(step, words, kind, more) {
  return html`<li class=${kind}>${time(step.at)}<div><p>${words}</p>${more}</div></li>`;
}

const note = (words) => words && html`<span class="note">${words}</span>`;

const took = ({ ms }) => ms !== null && html`<span class="quiet"> · ${milliseconds(ms)}</span>`;

const attemptNote = ({ attempt }) => attempt && note(text('event.attempt', { n: attempt }));

const unrecorded = ({ unrecorded: why }) => why && note(text('step.unrecorded', { why }));

function requestView(step) {
  const cause = step.cause && (isKnown(`cause.${step.cause}`) ? text(`cause.${step.cause}`)
    : step.cause);
  return [
    step.request ? text('step.request', { n: step.request, of: step.of ?? '?' })
      : text('step.a_request'),
    step.code ? textNodes('step.told', { code: html`<b>${step.code}</b>` }) : text('step.gone'),
    took(step),
    unrecorded(step),
    step.first_at && note(text('step.first_at', { at: clock(step.first_at) })),
    step.what === 'unmatched' && note(text('no_route')),
    step.what === 'refused' && note(text('step.refused', { why: faultText(step.why) })),
    cause && note(text('step.seen_before', { cause })),
    step.unqueued && note(text('step.unqueued')),
    step.routes.length > 0
      && note(text('step.routes', { routes: step.routes.join(text('comma')) })),
  ];
}

/** A row for each attempt, with its duration beside the longest. */
function attempts(targets) {
  const longest = Math.max(1, ...targets.map((each) => each.ms ?? 0));
  const columns = [[text('target'), 'name'], [text('route.as')], [text('event.took')],
    [text('events.happened')]];
  return table(text('event.attempts'), columns, targets.map((each) => ({
    key: each.target,
    kind: each.reason && each.reason !== 'acknowledged' ? 'wrong' : null,
    cells: [
      targetLink(each.target),
      each.as && text(`as.${each.as}`),
      each.ms !== null && [milliseconds(each.ms), share(each.ms / longest, null, 'took')],
      [resultOf(each), attemptNote(each), each.joined && note(text('event.joined')),
        each.late && note(text('event.late'))],
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
  return html`<li class="next">${ago(next.at)}<div><p>${words}
    ${note(next.in_flight ? text('next.in_flight') : next.paused && text('reason.paused'))}
  </p></div></li>`;
}

/** Its deliveries, with the actions on each. */
function inStore(story, acting) {
  const columns = [[text('target'), 'name'], [text('target.state')], [text('reason')],
    [text('delivery.retries'), 'number'], [text('delivery.changed'), 'number'],
    [text('dead.does'), 'does']];
  return table(text('event.in_store'), columns, story.deliveries.map((each) => ({
    key: each.target,
    cells: [targetLink(each.target), text(`delivery.${each.state}`), reasonText(each.reason),
      number(each.retries), ago(each.changed_at), acting.buttons({ state: each.state,
        event: story.event_id, target: each.target }, each.target)],
  })));
}

function known(story) {
  const rows = [
    ['event.id', story.event_id],
    ['event.request_id', story.request_id],
    ['event.trace_id', story.trace_id],
    ['event.changes', story.changes.map((each) =>
      (typeof each === 'string' ? each : JSON.stringify(each))).join(', ')],
    ['event.sha256', story.sha256],
    ['event.bytes', story.bytes === null ? null : number(story.bytes)],
  ];
  return html`<dl>${rows.filter(([, value]) => value).map(([key, value]) => html`
    <dt>${text(key)}</dt><dd><code>${value}</code>${' '}
      ${key !== 'event.bytes' && html`<${Copy} value=${value} name=${text(key)} />`}</dd>`)}</dl>`;
}

function body(story, name, query) {
  if (!query.body) {
    return html`<p><a class="button" href=${linkTo('events', name, { body: 'true' })}>
      ${text('event.show_body')}</a></p>`;
  }
  return html`<h2>${text('event.body')}</h2>
    ${story.body ? html`<pre tabindex="0">${story.body}</pre>` : quiet(text('event.no_body'))}`;
}
