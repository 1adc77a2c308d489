// The explanation of an event: its targets, the routes that it matches, and the nearest others.

import { act } from './api.js';
import { problemText, roleOf, text, textNodes } from './logic.js';
import { joined, targetLink } from './parts.js';
import { html } from './vendor/preact.js';

/** Explains a key, or an event as JSON. */
export async function explain(input) {
  try {
    if (!input.startsWith('{')) return await act('explain', { key: input });
    return await act('explain', { event: JSON.parse(input) });
  } catch (error) {
    if (error instanceof SyntaxError) return { error: text('explain.not_json') };
    if (error.status) return { error: problemText(error) };
    throw error;
  }
}

export function Explanation({ result }) {
  if (result.error) {
    return html`<div class="panel bad" role="status"><p>${result.error}</p></div>`;
  }
  if (result.refused) {
    const { code, msg, why } = result.refused;
    return html`<div class="panel" role="status">
      <p class="bad">${text('explain.refused', { code, msg })}</p>
      <p class="quiet">${why}</p></div>`;
  }
  const { unmatched, targets, routes } = result;
  return html`<div class="panel" role="status">
    ${unmatched ? html`<p class="bad">${text(`explain.unmatched.${unmatched}`)}</p>`
      : targets.length ? html`<ul>${['required', 'optional'].map((as) =>
        targets.filter((target) => as === roleOf(target)).map((target) => planned(target, as)))}
      </ul>`
        : html`<p>${text('explain.nothing')}</p>`}
    ${matches(routes.filter((route) => route.matched), 'explain.matched')}
    ${matches(routes.filter((route) => !route.matched), 'explain.nearest')}</div>`;
}

function planned(target, as) {
  const routes = target[`${as}_by`].join(text('comma'));
  return html`<li>${targetLink(target.name)} <b>${text(`as.${as}`)}</b>${' '}
    <span class="quiet">${text('explain.by', { routes })}</span>
    ${target.paused && html`<span class="note">${text('state.paused')}</span>`}</li>`;
}

function matches(routes, title) {
  return routes.length > 0 && html`<h3>${text(title, { n: routes.length })}</h3>
    <ul>${routes.map((route) => html`<li><b>${route.name}</b>
      <span class="quiet"> ${route.file}:${route.line}</span>
      ${route.except.map((field) => fieldView(field, bad('explain.excepted',
        { pattern: html`<code>${field.pattern}</code>` })))}
      ${route.fields.map((field) => fieldView(field, field.pattern !== null
        ? textNodes('explain.matches', { pattern: html`<code>${field.pattern}</code>` })
        : bad('explain.stops', { patterns: joined(field.patterns.map((pattern) =>
          html`<code>${pattern}</code>`), text('or')) })))}</li>`)}</ul>`;
}

function fieldView(field, words) {
  return html`<div><span class="quiet">${field.field} </span><code>${field.value || '–'}</code>
    ${' '}${words}</div>`;
}

const bad = (key, values) => html`<span class="bad">${textNodes(key, values)}</span>`;
