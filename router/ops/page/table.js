// A table, which a narrow screen shows as cards with labelled cells. A long list.

import { h } from './elements.js';
import { text } from './language.js';

/** How many items of a long list are shown at first. */
const FIRST = 20;

/**
 * `columns`: `[title, kind]` each. The one of kind `name` names its row, those of kind `does` have
 * buttons, and those of kind `number` and `short` share a line of a card, `bare` without a title.
 * `rows`: `{key, kind, cells}` each, or `{key, wide}` for one cell over all columns.
 */
export function table(caption, columns, rows, kind = null) {
  return h('div', { class: 'table' },
    h('table', { class: kind },
      h('caption', { class: 'unseen' }, caption),
      h('thead', null, h('tr', null, columns.map(([title, each]) =>
        h('th', { scope: 'col', class: each },
          each === 'does' ? h('span', { class: 'unseen' }, title) : title)))),
      h('tbody', null, rows.map((row) => h('tr', { 'data-key': row.key, class: row.kind },
        row.wide ? h('td', { colspan: columns.length, class: 'wide' }, row.wide)
          : row.cells.map((each, index) => cell(each, ...columns[index])))))));
}

/** A list. The rest of a long one is in a closed `details`. */
export function list(kind, items) {
  const rest = items.slice(FIRST);
  return [h('ul', { class: kind }, items.slice(0, FIRST)), rest.length ? h('details', null,
    h('summary', null, text('others', { n: rest.length })), h('ul', { class: kind }, rest)) : null];
}

function cell(content, title, kind) {
  if (kind === 'name') return h('th', { scope: 'row', class: kind }, content);
  return h('td', { class: kind, 'data-label': kind === 'does' ? null : title }, content);
}
