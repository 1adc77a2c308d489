// The form for a token, or the reason why there is no access.

import { keepToken } from '../api.js';
import { h } from '../elements.js';
import { queryOf } from '../place.js';
import { problemText, problemTitle, text } from '../language.js';

/** `refusal` is the API's problem; `had` in it: a token was sent. */
export function tokenEntry(refusal, page) {
  if (refusal.status === 403) {
    return h('div', null,
      h('h1', { tabindex: -1 }, problemTitle(refusal) || text('token.refused')),
      h('p', null, problemText(refusal)));
  }
  return h('div', null,
    h('h1', { tabindex: -1 }, text('token.wanted')),
    h('p', { class: 'quiet' }, text('token.where')),
    refusal.had ? h('p', { class: 'bad', role: 'alert' }, text('token.wrong')) : null,
    h('form', { class: 'filters', onsubmit: (event) => {
      event.preventDefault();
      keepToken(queryOf(event.currentTarget).token);
      page.begin();
    } },
    h('label', { class: 'wide' }, text('token'), h('input', { name: 'token', type: 'password',
      required: true, autocomplete: 'current-password', autofocus: true })),
    h('button', { class: 'strong' }, text('token.enter'))));
}
