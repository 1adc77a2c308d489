// Actions on deliveries: first a preview, then the action on exactly its deliveries, then the
// result, in the place of the button.
//
// `data.asked` is the current action: `{verb, filter, where, …}`, its progress, and in `kept` the
// place of its row.

import { act } from './api.js';
import { h } from './elements.js';
import { number } from './figures.js';
import { isKnown, problemText, text } from './language.js';

/** The place of an action on all filtered deliveries. Otherwise it is a delivery's key. */
export const ALL = 'all';

/** The actions for each state. */
const VERBS = { dead: ['replay', 'discard'], queued: ['retry', 'discard'],
  awaiting: ['retry', 'discard'],
  superseded: ['restore'], acknowledged: [] };

/** The permissions for each action: any of them. */
const NEEDS = { replay: ['replay'], retry: ['replay'], discard: ['discard'],
  restore: ['replay', 'discard'] };

/** The action that undoes another. */
const UNDO = { discard: 'restore' };

/** The key of a delivery. */
export function keyOf(entry) {
  return `${entry.event_id} ${entry.target}`;
}

/** The buttons for a selection; each shows a preview first. */
export function acts(where, filter, data, page) {
  const verbs = VERBS[filter.state].filter((verb) => NEEDS[verb].some(page.may));
  if (!verbs.length) return null;
  return h('div', { class: 'acts' }, verbs.map((verb) => h('button', {
    type: 'button', onclick: () => preview(verb, filter, where, data, page),
  }, text(where === ALL ? `all.${verb}` : `verb.${verb}`))));
}

/** A selection for the API, with lists. */
function selectionOf(filter) {
  const lists = ['target', 'state', 'match', 'event'].filter((name) => filter[name])
    .map((name) => [name, [filter[name]]]);
  return { ...filter, ...Object.fromEntries(lists) };
}

async function preview(verb, filter, where, data, page, undone) {
  const kept = data.asked?.where === where ? data.asked.kept : null;
  data.asked = { verb, filter, where, undone, kept };
  await step(data, page, async (asked) => {
    asked.preview = await act(`deliveries/${verb}`, { ...selectionOf(filter), dry_run: true });
  });
}

/** Acts on exactly the deliveries of the preview. */
async function carryOut(data, page) {
  await step(data, page, async (asked) => {
    const done = { changed: 0, left: 0 };
    for (let more = true; more;) {
      const result = await act(`deliveries/${asked.verb}`, { token: asked.preview.token });
      done.changed += result.changed;
      done.left = result.left;
      more = result.more;
      asked.done = { ...done, more };
      page.draw();
    }
  });
  page.load();
}

/** Runs one step at a time. The button stays, so that it keeps the focus. */
async function step(data, page, does) {
  const { asked } = data;
  if (asked.isBusy) return;
  asked.isBusy = true;
  page.draw();
  try {
    await does(asked);
  } catch (error) {
    asked.error = problemText(error);
  }
  asked.isBusy = false;
  page.draw();
}

/** The preview or the result of the action there. */
export function asking(where, data, page) {
  const { asked } = data;
  if (asked?.where !== where) return null;
  const dismiss = () => { data.asked = null; page.load(); };
  return h('div', { class: 'panel', role: 'status' },
    asked.error ? [h('p', { class: 'bad' }, asked.error), button('dismiss', dismiss)]
      : asked.done ? doneView(asked, data, page, dismiss)
        : asked.preview ? previewView(asked, data, page, dismiss)
          : h('p', { class: 'quiet' }, text('looking')));
}

function previewView({ verb, preview: would, undone }, data, page, dismiss) {
  const n = would.number;
  return [
    h('p', null, h('b', null, text(`would.${verb}`, { n }))),
    would.counts.length > 1 ? h('p', { class: 'quiet' }, would.counts.map((each) =>
      `${each.target}${text('colon')}${number(each.deliveries)}`).join(text('comma'))) : null,
    undone !== undefined && undone !== n ? h('p', null, text('dead.not_what_was_undone', { n:
      undone })) : null,
    would.left_out ? h('p', null, text('dead.left_out', { n: would.left_out })) : null,
    Object.entries(would.held).map(([target, why]) =>
      h('p', null, text(`held.${why}`, { target }))),
    would.why.map((why) => h('p', { class: 'quiet' }, whyText(why))),
    n && verb === 'replay' ? h('p', { class: 'quiet' }, text('dead.replay_means')) : null,
    n && verb === 'retry' ? h('p', { class: 'quiet' }, text('dead.retry_means')) : null,
    n && verb === 'discard' ? h('p', { class: 'quiet' }, text('dead.discard_means')) : null,
    h('div', { class: 'acts' },
      n ? button(`do.${verb}`, () => carryOut(data, page), { n }) : null,
      button(n ? 'cancel' : 'dismiss', dismiss)),
  ];
}

/** `TARGET: STATE`, or a sentence that the event is not kept. */
function whyText(why) {
  const [target, state] = why.split(/: ([^:]*)$/);
  return isKnown(`delivery.${state}`) ? [target, text('colon'), text(`delivery.${state}`)]
    : text('dead.not_kept');
}

function doneView({ verb, done, filter, where }, data, page, dismiss) {
  const undo = UNDO[verb];
  return [
    h('p', null, h('b', null, text(`did.${verb}`, { n: done.changed })), ' ',
      done.more ? text('dead.going_on')
        : done.left ? text('dead.left', { n: done.left }) : null),
    h('div', { class: 'acts' },
      undo && done.changed && !done.more
        ? button('undo', () => preview(undo, { ...filter, state: 'superseded' }, where, data, page,
          done.changed)) : null,
      button('dismiss', dismiss)),
  ];
}

function button(words, onclick, values) {
  return h('button', { type: 'button', onclick,
    class: words.startsWith('do.') ? 'strong' : null }, text(words, values));
}
