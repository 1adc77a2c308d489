// Where one is: `#/events/ID?target=ledger`. All that a view depends on is in it, so that a link
// shows what its sender sees. What follows `#` never reaches a server, or a server's log.

/** `{room, name, query}`; `name` is null where the room itself is meant. */
export function placeOf(hash) {
  const [path, search = ''] = hash.replace(/^#\/?/, '').split(/\?(.*)/s);
  const [room, name] = path.split('/', 2);
  return {
    room: room || 'now',
    name: name ? decoded(name) : null,
    query: Object.fromEntries(new URLSearchParams(search)),
  };
}

/** The link there; a part of the query that is empty is left out. */
export function linkTo(room, name = null, query = {}) {
  const said = Object.entries(query).filter(([, value]) => value);
  const search = said.length ? `?${new URLSearchParams(said)}` : '';
  return `#/${room}${name ? `/${encodeURIComponent(name)}` : ''}${search}`;
}

/** What a form says, as a query. */
export function queryOf(form) {
  const said = [...new FormData(form)].map(([name, value]) => [name, value.trim()]);
  return Object.fromEntries(said.filter(([, value]) => value));
}

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}
