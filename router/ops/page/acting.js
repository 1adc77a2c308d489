// What a person does with deliveries: first it is shown what an act would change, then the act
// takes exactly that, and tells what it has changed, where it was asked for.
//
// `data.asked` is the one thing that is asked for: `{verb, filter, where, …}`, how far it is, and
// in `kept` where its row stood.

import { act } from './api.js';
import { h } from './elements.js';
import { number } from './figures.js';
import { isKnown, problemText, text } from './telling.js';

/** Where all that the filters show is asked for; else it is the key of one delivery. */
export const ALL = 'all';

/** What may be done with a delivery that stands there. */
const VERBS = { dead: ['replay', 'discard'], queued: ['discard'], awaiting: ['discard'],
  superseded: ['restore'], acknowledged: [] };

/** What a token has to be allowed, any of them. */
const NEEDS = { replay: ['replay'], discard: ['discard'], restore: ['replay', 'discard'] };

/** What takes it back. */
const UNDO = { discard: 'restore' };

/** The key of a delivery. */
export function keyOf(entry) {
  return `${entry.event_id} ${entry.target}`;
}

/** The buttons of what may be done with a selection; each shows first what it would change. */
export function acts(where, filter, data, page) {
  const verbs = VERBS[filter.state].filter((verb) => NEEDS[verb].some(page.may));
  if (!verbs.length) return null;
  return h('div', { class: 'acts' }, verbs.map((verb) => h('button', {
    type: 'button', onclick: () => preview(verb, filter, where, data, page),
  }, text(where === ALL ? `all.${verb}` : `verb.${verb}`))));
}

/** A selection as the API takes it: each part a list. */
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

/** Takes the token of the preview, and with it exactly that set. */
async function carryOut(data, page) {
  await step(data, page, async (asked) => {
    const done = { changed: 0, left: 0 };
    for (let more = true; more;) {
      const said = await act(`deliveries/${asked.verb}`, { token: asked.preview.token });
      done.changed += said.changed;
      done.left = said.left;
      more = said.more;
      asked.done = { ...done, more };
      page.draw();
    }
  });
  page.load();
}

/** One at a time; the button stays as it is, so that it keeps the focus. */
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

/** What was asked for there: what it would change, or what it has changed. */
export function asking(where, data, page) {
  const { asked } = data;
  if (asked?.where !== where) return null;
  const dismiss = () => { data.asked = null; page.load(); };
  return h('div', { class: 'panel', role: 'status' },
    asked.error ? [h('p', { class: 'bad' }, asked.error), button('dismiss', dismiss)]
      : asked.done ? doneTold(asked, data, page, dismiss)
        : asked.preview ? previewTold(asked, data, page, dismiss)
          : h('p', { class: 'quiet' }, text('looking')));
}

function previewTold({ verb, preview: would, undone }, data, page, dismiss) {
  const n = would.number;
  return [
    h('p', null, h('b', null, text(`would.${verb}`, { n }))),
    would.counts.length > 1 ? h('p', { class: 'quiet' }, would.counts.map((each) =>
      `${each.target}${text('colon')}${number(each.deliveries)}`).join(text('comma'))) : null,
    undone !== undefined && undone !== n ? h('p', null, text('dead.not_what_was_undone', { n:
      undone })) : null,
    would.left_out ? h('p', null, text('dead.left_out', { n: would.left_out })) : null,
    would.why.map((why) => h('p', { class: 'quiet' }, whyText(why))),
    n && verb === 'replay' ? h('p', { class: 'quiet' }, text('dead.replay_means')) : null,
    n && verb === 'discard' ? h('p', { class: 'quiet' }, text('dead.discard_means')) : null,
    h('div', { class: 'acts' },
      n ? button(`do.${verb}`, () => carryOut(data, page), { n }) : null,
      button(n ? 'cancel' : 'dismiss', dismiss)),
  ];
}

/** `TARGET: STATE`, or that the event is not kept. */
function whyText(why) {
  const [target, state] = why.split(/: ([^:]*)$/);
  return isKnown(`delivery.${state}`) ? [target, text('colon'), text(`delivery.${state}`)]
    : text('dead.not_kept');
}

function doneTold({ verb, done, filter, where }, data, page, dismiss) {
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
