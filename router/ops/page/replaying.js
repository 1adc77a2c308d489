// Replays from the archive, in a dialog: first a preview, then the events step by step, then the
// outcome of their deliveries as it comes.

import { Outcome } from './acting.js';
import { act } from './api.js';
import { problemText, text } from './logic.js';
import { Dialog } from './parts.js';
import { html, useEffect, useRef, useState } from './vendor/preact.js';

/** How long to wait if the store is full, in milliseconds. */
const WAIT = 1000;

const wait = () => new Promise((resolve) => { setTimeout(resolve, WAIT); });

/**
 * Previews each of `selections` at `path`; `view(previews, carryOut)` shows that. Without
 * selections, `children` asks for them. Closing the dialog stops the replay.
 */
export function Replaying({ label, path, selections, view, close, children }) {
  const [state, set] = useState({});
  const it = useRef({ isOpen: true }).current;
  useEffect(() => () => { it.isOpen = false; }, []);
  const show = (values) => it.isOpen && set(values);
  const run = async (work) => {
    try {
      await work();
    } catch (error) {
      show({ error: problemText(error) || error.message });
    }
  };
  useEffect(() => {
    if (!selections) return;
    set({});
    run(async () => {
      show({ previews: await Promise.all(selections.map((each) =>
        act(path, { ...each, dry_run: true }))) });
    });
  }, [JSON.stringify(selections)]);
  const carryOut = () => (it.isBusy ? null : run(async () => {
    it.isBusy = true;
    const chosen = state.previews.filter(({ number: count }) => count);
    const done = { n: chosen.reduce((all, each) => all + each.number, 0), taken: 0, changed: 0 };
    for (const { token } of chosen) {
      for (let more = true; more && it.isOpen;) {
        const step = await act(path, { token });
        done.taken += step.taken;
        done.changed += step.changed;
        more = step.more;
        show({ ...state, done: { ...done, isFull: step.is_full } });
        if (step.is_full) await wait();
      }
    }
    const actions = chosen.map(({ action }) => action.action_id);
    show({ ...state, done, actions });
  }));
  const { previews, done, actions, error } = state;
  return html`<${Dialog} label=${label} close=${close}>
    ${error ? html`<p class="bad" role="alert">${error}</p>`
      : done ? doneView(done, actions)
        : previews ? view(previews, carryOut)
          : selections ? html`<p class="quiet">${text('looking')}</p>` : children}<//>`;
}

function doneView({ n, taken, changed, isFull }, actions) {
  if (!actions) {
    return html`<p role="status">${text('again.going_on', { taken, n })}
      ${isFull && html`<span class="note">${text('again.waiting')}</span>`}</p>`;
  }
  return html`<p><b>${text('again.did', { n: changed })}</b>
    ${taken > changed && html`<span class="note">${text('again.left', { n: taken - changed })}
    </span>`}</p>
    ${changed > 0 && html`<${Outcome} actions=${actions} />`}`;
}
