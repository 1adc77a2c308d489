// A table, which a narrow screen shows as cards: each cell then says what it is.

import { h } from './elements.js';

/**
 * `columns`: `[title, class]` each. `rows`: `{key, cells, kind}` each; a cell is what `h` takes.
 * The first cell names the row.
 */
export function table(caption, columns, rows) {
  return h('div', { class: 'table' },
    h('table', null,
      h('caption', { class: 'unseen' }, caption),
      h('thead', null, h('tr', null, columns.map(([title, kind]) =>
        h('th', { scope: 'col', class: kind }, title)))),
      h('tbody', null, rows.map((row) => h('tr', { 'data-key': row.key, class: row.kind },
        row.wide ? h('td', { colspan: columns.length, class: 'wide' }, row.wide)
          : row.cells.map((cell, index) => h(index ? 'td' : 'th', {
            scope: index ? null : 'row',
            class: columns[index][1],
            'data-label': columns[index][0],
          }, cell)))))));
}
