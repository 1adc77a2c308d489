// Logic without a browser: places, troubles and their order, searches, lines of the stream.

/** `#/events/ID?target=ledger` as `{room, name, query}`; `name` is null for the room itself. */
export function placeOf(hash) {
  const [path, search = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  const [room, name] = path.split('/', 2);
  return {
    room: room || 'now',
    name: name ? decoded(name) : null,
    query: Object.fromEntries(new URLSearchParams(search)),
  };
}

/** The link to a place, without the empty parts of its query. */
export function linkTo(room, name = null, query = {}) {
  const entries = Object.entries(query).filter(([, value]) => value);
  const search = entries.length ? `?${new URLSearchParams(entries)}` : '';
  return `#/${room}${name ? `/${encodeURIComponent(name)}` : ''}${search}`;
}

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

// Troubles

const SEVERITIES = ['critical', 'warning', 'notice'];

/** Causes of `/status` that do not keep events from their targets. */
const WARNINGS = new Set(['file_refused', 'nodes_differ', 'store_full', 'archive_failed',
  'loop_blocked', 'dead_letters', 'queued']);

/** The severity of each state of a target that needs attention. */
const STATES = { failing: 'critical', breaker_open: 'critical', dead_letters: 'warning',
  paused: 'notice' };

export function isTroubled(target) {
  return target.state in STATES;
}

/** `required` if any route requires it; null if no route has it. */
export function roleOf(target) {
  if (target.required_by.length) return 'required';
  return target.optional_by.length ? 'optional' : null;
}

/** The part of the last hour's attempts that failed; null without attempts. */
export function failureRate({ hour }) {
  return hour.attempts ? hour.failed / hour.attempts : null;
}

/**
 * All troubles, the worst first: `{key, severity, cause}` or `{key, severity, target}`. Causes of
 * the service come before targets, required targets before optional ones, then by deliveries that
 * are not settled, and by the failure rate.
 */
export function troublesOf({ causes }, targets) {
  const names = new Set(targets.map((target) => target.name));
  const service = causes.filter((cause) => !names.has(cause.params.target)).map((cause) => ({
    key: `${cause.check} ${cause.code} ${cause.params.code ?? ''}`,
    severity: WARNINGS.has(cause.code) ? 'warning' : 'critical',
    cause,
  }));
  const theirs = targets.filter(isTroubled).map((target) => ({
    key: `target ${target.name}`,
    severity: severityOf(target),
    target,
  }));
  const rank = ({ severity, target }) => [SEVERITIES.indexOf(severity), ...(target ? [1,
    roleOf(target) === 'required' ? 0 : 1, -atStake(target), -failureRate(target)] : [0])];
  return [...service, ...theirs].map((trouble) => [rank(trouble), trouble])
    .sort(([one, a], [other, b]) => compared(one, other) || (a.key < b.key ? -1 : 1))
    .map(([, trouble]) => trouble);
}

function severityOf(target) {
  const severity = STATES[target.state];
  return severity === 'critical' && roleOf(target) !== 'required' ? 'warning' : severity;
}

function atStake({ unsettled }) {
  return unsettled.dead + unsettled.queued + unsettled.awaiting;
}

function compared(one, other) {
  const index = one.findIndex((value, at) => value !== other[at]);
  return index < 0 ? 0 : one[index] - (other[index] ?? 0);
}

// Searches

/** A key or a pattern of keys with closed sets, which can be followed. */
const KEY = /^(?=.*[.*?[])([^\s[]|\[[^\s\]]+\])+$/;

/** Whether the stream can follow the query: a key can be followed, an id or a time cannot. */
export function isFollowed({ what = '', since, code }) {
  return !since && !code && (!what || (KEY.test(what) && !what.includes('/')));
}

/** The word for the id by which a search found a row; null for a key or a pattern. */
export function matchedBy(row, what) {
  const word = (what ?? '').trim().toLowerCase();
  if (!word || KEY.test(word) || row.event_key?.toLowerCase() === word) return null;
  if (row.event_id?.toLowerCase() === word) return 'event.id';
  if (row.request_id?.toLowerCase() === word) return 'event.request_id';
  if (/^[0-9a-f]{32}$/.test(word)) return 'event.trace_id';
  return /^[0-9a-f]{33,64}$/.test(word) ? 'event.sha256' : 'event.changes';
}

// Lines of the stream, and results of a search

/** Each line once, the newest first, at most `most`. */
export function merged(lists, most) {
  const lines = new Map(lists.flat().reverse().map((line) => [lineKey(line), line]));
  const newest = (one, other) => Date.parse(other.at) - Date.parse(one.at);
  return [...lines.values()].reverse().sort(newest).slice(0, most);
}

export function lineKey(line) {
  return `${line.at} ${line.event_id} ${line.request_id} ${line.what} ${line.target}`;
}

/** Lines by their event: `{key, last, earlier}`, in the order of each event's last line. */
export function grouped(lines) {
  const groups = new Map();
  for (const line of lines) {
    const key = line.event_id || lineKey(line);
    if (groups.has(key)) groups.get(key).earlier.push(line);
    else groups.set(key, { key, last: line, earlier: [] });
  }
  return [...groups.values()];
}

/** What became of an action's deliveries so far; those that are retried count as failed. */
export function outcomeOf(deliveries, actionId) {
  const own = deliveries.filter(({ action }) => action?.action_id === actionId);
  const count = (fits) => own.filter(fits).length;
  const done = count(({ state }) => state === 'acknowledged');
  const failed = count(({ state, retries }) => state === 'dead' || (state === 'queued' && retries));
  return { all: own.length, done, failed, left: own.length - done - failed };
}

// Routes

/** Routes by their file: `{file, owners, routes}`, with the owners of their targets. */
export function routesByFile(routes, ownerOf) {
  const files = new Map();
  for (const route of routes) {
    if (!files.has(route.file)) files.set(route.file, { file: route.file, routes: [] });
    files.get(route.file).routes.push(route);
  }
  return [...files.values()].map((each) => ({ ...each, owners: [...new Set(each.routes
    .flatMap((route) => [...route.required, ...route.optional]).map(ownerOf))]
    .filter(Boolean).sort() }));
}
