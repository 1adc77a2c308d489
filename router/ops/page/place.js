// The place: `#/events/ID?target=ledger`. A view depends on it alone, so a link shows what its
// sender sees. The part after `#` never reaches a server or its log.

/** `{room, name, query}`; `name` is null for the room itself. */
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

/** The values of a form, as a query. */
export function queryOf(form) {
  const entries = [...new FormData(form)].map(([name, value]) => [name, value.trim()]);
  return Object.fromEntries(entries.filter(([, value]) => value));
}

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
