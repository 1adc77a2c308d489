// The state that all rooms share, and hooks that load data and follow the stream.

import { Gone, Problem, follow, keepToken, token } from './api.js';
import { placeOf } from './logic.js';
import { useEffect, useRef, useState } from './vendor/preact.js';

/** How often data is loaded, and how often while the router does not answer, in milliseconds. */
export const OFTEN = 5000;
const GONE = 2000;

/** How long events of the stream are collected before the data is loaded, in milliseconds. */
const SOON = 1000;

export const session = {
  place: placeOf(location.hash),
  /** Grows with each visit of the same place, which loads it again. */
  visit: 0,
  /** Grows with each token. */
  access: 0,
  /** The token's holder and permissions; null until loaded. */
  you: null,
  /** The problem that denies access. Nothing is loaded until there is another token. */
  refusal: null,
  /** Whether the stream is open; null until it is known. */
  isLive: null,
  /** Since when the router has not answered, in milliseconds; null if it answers. */
  goneSince: null,
  /** The number of troubles, for the title; all targets by name, for inputs and warnings. */
  wrong: 0,
  targets: new Map(),
};

let draw = () => {};

/** Calls `next` after each change. */
export function drawBy(next) {
  draw = next;
}

export function change(values) {
  Object.assign(session, values);
  draw();
}

export function may(permission) {
  return session.you?.may.includes(permission) ?? false;
}

/** Whether the token is a team's. */
export function isTeams() {
  return Boolean(session.you?.owner);
}

/** Goes to a place. A visit of the current place loads it again. */
export function go(link) {
  const before = location.href;
  location.hash = link;
  if (location.href === before) change({ visit: session.visit + 1 });
}

/** Goes to a place without a new entry in the browser's history. */
export function replace(link) {
  history.replaceState(null, '', link);
  change({ place: placeOf(location.hash) });
}

/** Starts anew with the current token. */
export function begin() {
  change({ access: session.access + 1, you: null, refusal: null, isLive: null, goneSince: null });
}

/** Forgets a wrong token: the router limits how often one may be sent. */
export function refuse(problem) {
  const had = Boolean(token());
  if (problem.status === 401) keepToken('');
  change({ you: null, isLive: null, goneSince: null, refusal: { problem, had } });
}

/** Takes note of a failed request, which began then. */
function failed(error, began) {
  if (error.status === 401) {
    refuse(error);
  } else if (error instanceof Problem) {
    change({ goneSince: null });
  } else {
    // Any other error means an unreadable answer, which counts as none.
    if (!(error instanceof Gone)) reportError(error);
    change({ goneSince: session.goneSince ?? began });
  }
}

/**
 * Loads data again and again; another key, visit or token starts without data. `load` gets the
 * previous data. Returns `{data, problem, reload, soon, update}`.
 */
export function useLoad(load, key, every = OFTEN) {
  const whole = JSON.stringify([key, session.visit, session.access]);
  const [state, setState] = useState({});
  const it = useRef({}).current;
  const { data = null, problem = null } = state.whole === whole ? state : {};
  Object.assign(it, { load, data, every });
  useEffect(() => {
    let last = null;
    it.reload = async () => {
      clearTimeout(it.timer);
      const mine = last = Symbol('load');
      const began = Date.now();
      const keep = (values) => setState({ whole, data: it.data, problem: null, ...values });
      try {
        const found = await it.load(it.data);
        if (mine !== last) return;
        keep({ data: found });
        change({ goneSince: null });
      } catch (error) {
        if (mine !== last) return;
        if (error instanceof Problem) keep({ problem: error });
        failed(error, began);
      }
      if (session.refusal) return;
      it.timer = setTimeout(() => (document.hidden && !session.goneSince ? null : it.reload()),
        session.goneSince ? GONE : it.every);
    };
    it.reload();
    const appears = () => (document.hidden ? null : it.reload());
    document.addEventListener('visibilitychange', appears);
    return () => {
      last = null;
      clearTimeout(it.timer);
      document.removeEventListener('visibilitychange', appears);
    };
  }, [whole]);
  return {
    data,
    problem,
    reload: () => it.reload(),
    /** Loads once for all calls within a moment. */
    soon: () => {
      it.soon ??= setTimeout(() => { it.soon = null; it.reload(); }, SOON);
    },
    update: (values) => setState((before) => ({ ...before, data: { ...before.data, ...values } })),
  };
}

/** Follows the stream; `marked(isLive, was)` is called for each connection and each break. */
export function useStream(query, receive, marked) {
  const latest = useRef({});
  latest.current = { receive, marked };
  useEffect(() => {
    if (session.refusal) return undefined;
    let isOpen = null;
    return follow(query, (...event) => latest.current.receive?.(...event), (isLive) => {
      if (isLive === isOpen) return;
      isOpen = isLive;
      const was = session.isLive;
      change({ isLive });
      latest.current.marked(isLive, was);
    });
  }, [JSON.stringify(query), session.access, Boolean(session.refusal)]);
}
