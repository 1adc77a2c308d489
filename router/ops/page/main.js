// The page: its bar, the current room, the token, the keyboard; and its first room, the overview.

import { ask, followTabs, keepToken, now, shareToken } from './api.js';
import { causeText, clock, duration, failureRate, languageNow, linkTo, milliseconds, number,
  percent, placeOf, problemText, problemTitle, roleOf, setLanguage, text, textNodes,
  troublesOf } from './logic.js';
import { EventsChart, LatencyChart, Long, OFTEN, Room, ago, badge, begin, change, drawBy, go,
  isTeams, joined, problemsView, queryOf, quiet, refuse, session, sparkline, table, targetLink,
  time, troubles, unsettled, useLoad, waitingText } from './parts.js';
import { html, render, useEffect, useErrorBoundary, useReducer,
  useState } from './vendor/preact.js';

const KEYS = 'ebaas-router-keys';

/** The rooms that are loaded when they are visited, by the names of their modules. */
const MODULES = ['target', 'events', 'event', 'dead', 'routes', 'nodes', 'refused'];

function roomOf({ room, name }) {
  if (room === 'targets' && name) return 'target';
  if (room === 'events' && name) return 'event';
  return MODULES.includes(room) && room !== 'target' && room !== 'event' ? room : 'now';
}

/** The rooms in the bar, also by digit keys. Teams do not see nodes. */
const roomsInBar = () => ['now', 'events', 'dead', 'routes', ...(isTeams() ? [] : ['nodes'])];

function Page() {
  const [, draw] = useReducer((count) => count + 1, 0);
  drawBy(draw);
  useEffect(() => {
    // Ages grow without new data.
    const timer = setInterval(draw, OFTEN);
    return () => clearInterval(timer);
  }, []);
  useEffect(() => {
    document.documentElement.lang = languageNow() === 'zh' ? 'zh-CN' : 'en';
  });
  const room = roomOf(session.place);
  const key = `${room} ${session.place.name ?? ''} ${session.access}`;
  return html`
    <a class="skip" href="#main" onClick=${(click) => {
      click.preventDefault();
      document.querySelector('main').focus();
    }}>${text('skip')}</a>
    <${Bar} />
    ${session.goneSince && html`<div class="notice" role="alert">${text('gone', {
      at: clock(session.goneSince), age: duration((Date.now() - session.goneSince) / 1000) })}
    </div>`}
    ${session.refusal ? html`<${TokenEntry} ...${session.refusal} />`
      : html`<${Signed} key=${session.access} room=${room} place=${key} />`}
    <datalist id="targets">${[...session.targets.keys()].sort().map((name) =>
      html`<option value=${name} />`)}</datalist>
    <${Keys} />`;
}

/** What a holder of a token sees. The overview is loaded in all rooms, for the title. */
function Signed({ room, place }) {
  const you = useLoad(async () => {
    try {
      change({ you: await ask('you') });
      if (session.you.tokens) shareToken();
    } catch (error) {
      if (error.status === 403) refuse(error);
      throw error;
    }
  }, 'you', session.you ? OFTEN * 12 : OFTEN);
  const overview = useLoad(loadOverview, 'now', room === 'now' ? OFTEN : OFTEN * 3);
  return html`
    ${you.problem && html`<p class="notice" role="alert">${problemText(you.problem)}</p>`}
    <${Whole} key=${place}>
      ${room === 'now' ? html`<${Now} loaded=${overview} />` : html`<${Lazy} name=${room} />`}
    <//>`;
}

async function loadOverview() {
  const [status, minutes, { targets }] = await Promise.all([
    ask('status'), ask('minutes'), ask('targets')]);
  const troubles = troublesOf(status, targets);
  const wrong = troubles.filter(({ severity }) => severity !== 'notice').length;
  change({
    wrong,
    targets: new Map(targets.map((target) => [target.name, target])),
  });
  return { status, minutes, targets, troubles, wrong };
}

/** A room whose data cannot be drawn is drawn again later; the bar stays. */
function Whole({ children }) {
  const [error, again] = useErrorBoundary(reportError);
  useEffect(() => {
    if (error) setTimeout(again, OFTEN);
  }, [error]);
  return error ? html`<main id="main" tabindex="-1" aria-busy="false">
    <h1 tabindex="-1">${text('broken')}</h1><p>${text('broken.again')}</p></main>` : children;
}

const loadedRooms = new Map();

function Lazy({ name }) {
  const [, draw] = useState(0);
  const Room = loadedRooms.get(name);
  useEffect(() => {
    if (Room) return;
    import(`./rooms/${name}.js`).then((it) => {
      loadedRooms.set(name, it.default);
      draw(1);
    }, () => location.reload());
  }, []);
  return Room ? html`<${Room} place=${session.place} />`
    : html`<main id="main" tabindex="-1" aria-busy="true"></main>`;
}

function Bar() {
  const { place, you, isLive, goneSince } = session;
  const here = { targets: 'now', refused: 'events' }[place.room] ?? place.room;
  const other = languageNow() === 'zh' ? 'en' : 'zh';
  const isOff = goneSince || isLive === false;
  return html`<header>
    <a class="brand" href=${linkTo('now')}>${text('product')}</a>
    <nav aria-label=${text('rooms')}>${roomsInBar().map((room, index) => html`<a
      href=${linkTo(room)} aria-current=${room === here ? 'page' : null}
      aria-keyshortcuts=${String(index + 1)}>${text(room)}</a>`)}</nav>
    <form role="search" class="find" onSubmit=${(event) => {
      event.preventDefault();
      go(linkTo('events', null, queryOf(event.currentTarget)));
    }}><input type="search" name="what" class="search" aria-label=${text('find')}
      key=${`${location.hash} ${session.visit}`} defaultValue=${place.query.what ?? ''}
      placeholder=${text('find.example')} autocomplete="off" spellcheck=${false}
      aria-keyshortcuts="/" /></form>
    <div class="side">
      ${(isOff || isLive) && html`<span class="live ${isOff ? 'off' : 'on'}" role="status">
        ${text(isOff ? 'live.off' : 'live')}</span>`}
      ${you?.name && html`<button type="button" title=${text('token.forget')} onClick=${leave}>
        ${text('token.leave', { name: you.name })}</button>`}
      <button type="button" lang=${other} title=${text('language')} onClick=${() => {
        setLanguage(other);
        change({});
      }}>${other === 'zh' ? '中文' : 'EN'}</button>
    </div>
  </header>`;
}

// The token

/** The form for a token, or the reason why there is no access; `had`: a token was sent. */
function TokenEntry({ problem, had }) {
  if (problem.status === 403) {
    return html`<main id="main" tabindex="-1" aria-busy="false">
      <h1 tabindex="-1">${problemTitle(problem) || text('token.refused')}</h1>
      <p>${problemText(problem)}</p></main>`;
  }
  return html`<main id="main" tabindex="-1" aria-busy="false">
    <h1 tabindex="-1">${text('token.wanted')}</h1>
    <p class="quiet">${text('token.where')}</p>
    ${had && html`<p class="bad" role="alert">${text('token.wrong')}</p>`}
    <form class="filters" onSubmit=${(event) => {
      event.preventDefault();
      keepToken(queryOf(event.currentTarget).token);
      begin();
    }}><label class="wide">${text('token')}<input name="token" type="password" required
        autocomplete="current-password" autofocus /></label>
      <button class="strong">${text('token.enter')}</button></form></main>`;
}

/** Removes the token, in all tabs. */
function leave() {
  keepToken('');
  shareToken();
  begin();
}

// The keyboard

const hasKeys = () => localStorage.getItem(KEYS) !== 'off';

/** The keys, and the button that turns the single characters off. */
function Keys() {
  const isOn = hasKeys();
  return html`<footer class="quiet">${text(isOn ? 'keys' : 'keys.off')} <button type="button"
    onClick=${() => {
      localStorage.setItem(KEYS, isOn ? 'off' : 'on');
      change({});
    }}>${text(isOn ? 'keys.turn_off' : 'keys.turn_on')}</button></footer>`;
}

/** `/` leads to the search, a digit to a room, unless an input has the focus. */
document.addEventListener('keydown', (pressed) => {
  if (pressed.ctrlKey || pressed.metaKey || pressed.altKey || !hasKeys()) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(pressed.target.nodeName)) return;
  const room = roomsInBar()[Number(pressed.key) - 1];
  if (room) go(linkTo(room));
  if (pressed.key === '/') {
    pressed.preventDefault();
    document.querySelector('.search').select();
  }
});

// Navigation

window.addEventListener('hashchange', () => change({ place: placeOf(location.hash) }));

/** The link of the current place loads it again. */
document.addEventListener('click', (click) => {
  const link = click.target.closest?.('a[href^="#/"]');
  if (link?.href !== location.href || click.ctrlKey || click.metaKey || click.shiftKey) return;
  click.preventDefault();
  go(link.hash);
});

// The overview: every trouble, the worst first; the last hour; all targets

/** Log events that change a target's state. */
const CHANGES = new Set(['failing', 'recovered', 'breaker', 'dead_letter', 'reload', 'unmatched',
  'target_paused', 'target_resumed']);

function Now({ loaded }) {
  const wrong = loaded.data?.wrong;
  return html`<${Room} title=${text('now')} loaded=${loaded} kind=${wrong ? 'bad' : 'good'}
    heading=${loaded.data && (wrong ? text('now.wrong', { n: wrong }) : text('now.well'))}
    receive=${(kind) => CHANGES.has(kind) && loaded.soon()}>
    ${(data) => html`
      <div class="charts">
        <${EventsChart} minutes=${data.minutes} open=${eventsOf}
          title=${text(isTeams() ? 'target.attempts' : 'now.events')} />
        <${LatencyChart} minutes=${data.minutes} open=${eventsOf} title=${text('now.latency')} />
      </div>
      ${data.minutes.counted_since && html`<p class="quiet">${textNodes('now.counted_since', {
        since: time(data.minutes.counted_since) })}</p>`}
      ${data.troubles.length > 0 && html`<${Troubles} all=${data.troubles} />`}
      <${Targets} all=${data.targets} troubles=${data.troubles} />
      ${differences(data.status.observed)}
      ${about(data.status)}`}
  <//>`;
}

/** The link to the events of a minute. */
const eventsOf = (since, until) => linkTo('events', null, { since, until });

// Troubles, a line each

function Troubles({ all }) {
  const [opened, open] = useState(new Set());
  const turn = (key) => {
    const next = new Set(opened);
    if (!next.delete(key)) next.add(key);
    open(next);
    // The advice is not loaded for the first view.
    import('./rooms/words.js').then(() => change({}), () => {});
  };
  const columns = [[text('trouble'), 'name'], [text('severity'), 'short bare'],
    [text('reason'), 'bare'], [text('route.as'), 'short bare'], [text('rate'), 'number'],
    [text('expires'), 'number'], [text('dead.does'), 'does']];
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

/** The link to a target, with its owner. */
const ownedLink = ({ name, owner }) => [targetLink(name),
  owner && html`<span class="owner">${owner}</span>`];

function lineOf({ cause, target }) {
  if (!target) {
    const words = withTimes(causeText(cause));
    const check = text(`check.${cause.check}`);
    const detail = cause.code === 'unmatched' ? text('no_route') : cause.params.code;
    const label = detail ? `${check} (${detail})` : check;
    return { subject: html`<b>${check}</b>`, label, what: words, action: wayOf(cause, label),
      more: problemsView([[words, text(`do.check.${cause.check}`)]]) };
  }
  const all = troubles(target);
  const role = roleOf(target);
  return {
    subject: ownedLink(target),
    label: target.name,
    what: all[0]?.[0] ?? badge(target.state),
    role: role && text(`as.${role}`),
    rate: [percent(failureRate(target)), ' ', sparkline(target.hour.failed_minutes ?? [])],
    expires: expiryOf(target.expires_at),
    action: cause.code === 'dead_letters'
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

function wayOf({ check, code, params }, label) {
  if (code === 'unmatched') {
    return [way('routes', null, { key: params.key }, label, 'explain.short'), ' ',
      way('refused', null, {}, label)];
  }
  if (params.code === '400') return way('refused', null, {}, label);
  if (check === 'callbacks') return way('events', null, { failed: 'true' }, label);
  if (check === 'configuration') return way('routes', null, {}, label);
  return way(check === 'targets' ? 'dead' : 'nodes', null, {}, label);
}

function expiryOf(at) {
  if (!at) return null;
  return Date.parse(at) > now() ? ago(at) : text('expires.next');
}

/** Replaces times in UTC in a sentence by local ones. */
function withTimes(sentence) {
  return sentence.split(/(\d{4}-\d\d-\d\dT[\d:.]+Z)/)
    .map((part, index) => (index % 2 ? time(part) : part));
}

// Targets without trouble

function Targets({ all, troubles: found }) {
  if (!all.length) return [html`<h2>${text('targets')}</h2>`, quiet(text('now.no_targets'))];
  const troubled = new Set(found.map(({ target }) => target));
  const targets = all.filter((target) => !troubled.has(target));
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
        ownedLink(target),
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

await followTabs(begin);
render(html`<${Page} />`, document.getElementById('page'));
for (const name of MODULES) setTimeout(() => import(`./rooms/${name}.js`).catch(() => {}), OFTEN);
