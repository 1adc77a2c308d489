// Actions on deliveries, in a dialog: first a preview, then the action on exactly its deliveries,
// then their outcome as it comes.

import { act, ask } from './api.js';
import { isKnown, number, problemText, text } from './logic.js';
import { Dialog, may } from './parts.js';
import { html, useEffect, useRef, useState } from './vendor/preact.js';

/** The actions for each state. */
const VERBS = { dead: ['replay', 'discard'], queued: ['retry', 'discard'],
  awaiting: ['retry', 'discard'], superseded: ['restore'], acknowledged: [] };

/** The permissions for each action: any of them. */
const NEEDS = { replay: ['replay'], retry: ['replay'], discard: ['discard'],
  restore: ['replay', 'discard'] };

const SENDS = ['replay', 'retry'];

/** How soon an outcome is counted first, in milliseconds; each wait is longer, up to the last. */
const COUNTED = 500;
const LONGER = 1.1;
const LONGEST = 10_000;

/** The buttons for a selection, and the dialog of the current action. */
export function useActing(loaded) {
  const [asked, set] = useState(null);
  const isBusy = useRef(false);

  /** Runs one step at a time. The button stays, so that it keeps the focus. */
  const step = async (begun, does) => {
    if (isBusy.current) return;
    isBusy.current = true;
    set(begun);
    try {
      set({ ...begun, ...await does() });
    } catch (error) {
      set({ ...begun, error: problemText(error) });
    }
    isBusy.current = false;
  };
  const preview = (begun) => step(begun, async () => ({
    preview: await act(`deliveries/${begun.verb}`, { ...selectionOf(begun.filter), dry_run: true }),
  }));
  /** Acts on exactly the deliveries of the preview. */
  const carryOut = (begun) => step(begun, async () => {
    const done = { changed: 0 };
    for (let more = true; more;) {
      const result = await act(`deliveries/${begun.verb}`, { token: begun.preview.token });
      Object.assign(done, result, { changed: done.changed + result.changed });
      more = result.more;
      set({ ...begun, done: { ...done } });
    }
    loaded.reload();
    return { done };
  });

  return {
    /** The buttons for a selection; each shows a preview first. `name` is in their names. */
    buttons(filter, name) {
      const verbs = VERBS[filter.state].filter((verb) => NEEDS[verb].some(may));
      // Only discarded deliveries are restored, and those by the reasons that they had before.
      const isOther = filter.state === 'superseded' && (filter.reason ?? 'discarded') !== 'discarded';
      if (!verbs.length || isOther) return null;
      return html`<div class="acts">${verbs.map((verb) => {
        const words = text(name ? `verb.${verb}` : `all.${verb}`);
        return html`<button type="button" aria-label=${name && `${words} ${name}`}
          onClick=${() => preview({ verb, filter, name })}>${words}</button>`;
      })}</div>`;
    },
    dialog: asked && html`<${Dialog} label=${`${text(`verb.${asked.verb}`)} ${asked.name ?? ''}`}
      close=${() => { set(null); loaded.reload(); }}>
      ${asked.error ? html`<p class="bad" role="alert">${asked.error}</p>`
        : asked.done ? html`<${Done} ...${asked} undo=${preview} />`
          : asked.preview ? previewView(asked, () => carryOut(asked))
            : html`<p class="quiet">${text('looking')}</p>`}<//>`,
  };
}

/** A selection for the API, with lists. */
function selectionOf(filter) {
  const lists = ['target', 'state', 'reason', 'match', 'event'].filter((name) => filter[name])
    .map((name) => [name, [filter[name]]]);
  return { ...filter, ...Object.fromEntries(lists) };
}

function previewView({ verb, name, preview: would, undone }, carryOut) {
  const n = would.number;
  const targets = would.counts.map((each) =>
    `${each.target}${text('colon')}${number(each.deliveries)}`).join(text('comma'));
  return html`
    <p><b>${text(`would.${verb}`, { n })}</b></p>
    ${(name ?? targets) && html`<p class="quiet">${name ?? targets}</p>`}
    ${undone !== undefined && undone !== n
      && html`<p>${text('dead.not_what_was_undone', { n: undone })}</p>`}
    ${would.left_out > 0 && html`<p>${text('dead.left_out', { n: would.left_out })}</p>`}
    ${Object.entries(would.held).map(([target, why]) => html`<p class="warning">${text(`held.${why}`, { target })}</p>`)}
    ${would.why.map((why) => html`<p class="quiet">${whyText(why)}</p>`)}
    ${n > 0 && verb !== 'restore' && html`<p class="quiet">${text(`dead.${verb}_means`)}</p>`}
    ${n > 0 && html`<button type="button" class="strong" onClick=${carryOut}>
      ${text(`do.${verb}`, { n })}</button>`}`;
}

/** `TARGET: STATE`, or a sentence that the event is not kept. */
function whyText(why) {
  const [target, state] = why.split(/: ([^:]*)$/);
  return isKnown(`delivery.${state}`) ? [target, text('colon'), text(`delivery.${state}`)]
    : text('dead.not_kept');
}

function Done({ verb, done, filter, name, undo }) {
  return html`
    <p><b>${text(`did.${verb}`, { n: done.changed })}</b> ${done.more ? text('dead.going_on')
      : done.left > 0 && text('dead.left', { n: done.left })}</p>
    ${SENDS.includes(verb) && done.changed > 0
      && html`<${Outcome} actions=${[done.action.action_id]} more=${done.more} />`}
    ${verb === 'discard' && done.changed > 0 && !done.more && html`<button type="button"
      onClick=${() => undo({ verb: 'restore', name, undone: done.changed,
        filter: { ...filter, state: 'superseded' } })}>${text('undo')}</button>`}`;
}

/** The outcome of replays as it comes, until nothing is left; `more`: they still go on. */
export function Outcome({ actions, more }) {
  const [found, show] = useState(null);
  useEffect(() => {
    let timer = null;
    let wait = COUNTED;
    const look = async () => {
      const next = await ask('deliveries/outcome', { action: actions }).catch(() => null);
      if (!timer) return;
      if (next) show(next);
      wait = Math.min(wait * LONGER, LONGEST);
      if (!next || next.left || more) timer = setTimeout(look, wait);
    };
    timer = setTimeout(look, wait);
    return () => { clearTimeout(timer); timer = null; };
  }, [more]);
  if (!found) return null;
  const { acknowledged: done, failed, left } = found;
  const n = done + failed + left;
  return n > 0 && html`<p role="status" class=${failed ? 'bad' : left ? null : 'good'}>
    ${text('outcome', { n, done, failed })}${left > 0 && text('outcome.left', { n: left })}</p>`;
}
