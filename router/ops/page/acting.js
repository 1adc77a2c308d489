// Actions on deliveries, in a dialog: first a preview, then the action on exactly its deliveries,
// then their outcome as it comes.

import { act, ask } from './api.js';
import { isKnown, number, outcomeOf, problemText, text } from './logic.js';
import { Dialog, may, session } from './parts.js';
import { html, useEffect, useRef, useState } from './vendor/preact.js';

/** The actions for each state. */
const VERBS = { dead: ['replay', 'discard'], queued: ['retry', 'discard'],
  awaiting: ['retry', 'discard'], superseded: ['restore'], acknowledged: [] };

/** The permissions for each action: any of them. */
const NEEDS = { replay: ['replay'], retry: ['replay'], discard: ['discard'],
  restore: ['replay', 'discard'] };

const SENDS = ['replay', 'retry'];

/** How often the outcome is counted, in milliseconds, how many times, and of how many at most. */
const COUNTED = 1000;
const TIMES = 120;
const MOST = 500;

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
      if (!verbs.length) return null;
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
  const lists = ['target', 'state', 'match', 'event'].filter((name) => filter[name])
    .map((name) => [name, [filter[name]]]);
  return { ...filter, ...Object.fromEntries(lists) };
}

function previewView({ verb, preview: would, undone }, carryOut) {
  const n = would.number;
  const failing = SENDS.includes(verb) ? would.counts.map((each) => each.target).filter((target) =>
    !would.held[target] && session.targets.get(target)?.state === 'failing') : [];
  const held = [...Object.entries(would.held), ...failing.map((target) => [target, 'failing'])];
  return html`
    <p><b>${text(`would.${verb}`, { n })}</b></p>
    ${would.counts.length > 1 && html`<p class="quiet">${would.counts.map((each) =>
      `${each.target}${text('colon')}${number(each.deliveries)}`).join(text('comma'))}</p>`}
    ${undone !== undefined && undone !== n
      && html`<p>${text('dead.not_what_was_undone', { n: undone })}</p>`}
    ${would.left_out > 0 && html`<p>${text('dead.left_out', { n: would.left_out })}</p>`}
    ${held.map(([target, why]) => html`<p class="warning">${text(`held.${why}`, { target })}</p>`)}
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
  const [outcome, count] = useState(null);
  useEffect(() => {
    if (done.more || !SENDS.includes(verb) || done.changed > MOST) return undefined;
    let timer = null;
    let times = 0;
    const state = ['queued', 'awaiting', 'dead', 'acknowledged'];
    const look = async () => {
      const { deliveries } = await ask('deliveries', { ...filter, state, limit: MOST });
      const next = outcomeOf(deliveries, [done.action.action_id]);
      count(next);
      times += 1;
      if (next.left && times < TIMES && timer) timer = setTimeout(look, COUNTED);
    };
    timer = setTimeout(look, COUNTED / 2);
    return () => { clearTimeout(timer); timer = null; };
  }, [done.more]);
  return html`
    <p><b>${text(`did.${verb}`, { n: done.changed })}</b> ${done.more ? text('dead.going_on')
      : done.left > 0 && text('dead.left', { n: done.left })}</p>
    ${outcome?.all > 0 && html`<p role="status" class=${outcome.failed ? 'bad'
      : outcome.left ? null : 'good'}>
      ${text('outcome', { n: outcome.all, done: outcome.done, failed: outcome.failed })}
      ${outcome.left > 0 && text('outcome.left', { n: outcome.left })}</p>`}
    ${verb === 'discard' && done.changed > 0 && !done.more && html`<button type="button"
      onClick=${() => undo({ verb: 'restore', name, undone: done.changed,
        filter: { ...filter, state: 'superseded' } })}>${text('undo')}</button>`}`;
}
