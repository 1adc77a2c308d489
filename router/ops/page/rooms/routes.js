// Routes: the table in force, a test of an event, and the last reloads.

import './words.js';
import { ask } from '../api.js';
import { Explanation, explain } from '../explaining.js';
import { linkTo, number, routesByFile, text, textNodes } from '../logic.js';
import { Room, ago, go, isTeams, patterns, queryOf, quiet, replace, session, table, targetLink,
  useLoad } from '../parts.js';
import { html } from '../vendor/preact.js';

/** How many routes are shown: a table can have 100,000. */
const SHOWN = 200;

export default function Routes({ place: { query } }) {
  // There may be many: they are loaded again only after a reload.
  const loaded = useLoad(async (before) => {
    const { configuration } = await ask('status');
    const mark = configuration && `${configuration.hash} ${configuration.last_reload?.at}`;
    if (mark && before?.mark === mark) return before;
    return { ...await ask('routes'), mark };
  }, 'routes');
  return html`<${Room} title=${text('routes')} loaded=${loaded}
    receive=${(kind) => kind === 'reload' && loaded.soon()}>
    ${(data) => html`
      <p class="quiet">${textNodes('routes.since', { n: data.routes.length,
        hash: html`<code>${data.hash.slice(0, 12)}</code>`, age: ago(data.since) })}${' '}
        ${text(`unmatched.${data.unmatched}`)}</p>
      ${refused(data.refused)}
      <h2>${text('explain')}</h2>
      <${ExplainForm} query=${query} />
      <h2>${text('routes.in_force')}</h2>
      <${FindForm} query=${query} />
      ${inForce(data.routes, query.find ?? '')}
      ${(!isTeams() || data.reloads.length > 0)
        && html`<h2>${text('routes.reloads')}</h2>${reloads(data.reloads)}`}`}
  <//>`;
}

function ExplainForm({ query: { key, find } }) {
  const { data } = useLoad(async () => ({ result: key ? await explain(key) : null }),
    ['explain', key], 86_400_000);
  return html`<form class="filters" onSubmit=${(event) => {
    event.preventDefault();
    go(linkTo('routes', null, { find, ...queryOf(event.currentTarget) }));
  }}>
    <label class="wide">${text('explain.what')}<input name="key" key=${key}
      defaultValue=${key ?? ''} autocomplete="off" spellcheck=${false} placeholder="a.gs.cert.1" />
    </label>
    <button class="strong">${text('explain.short')}</button></form>
    ${data?.result && html`<${Explanation} result=${data.result} />`}`;
}

function FindForm({ query: { key, find } }) {
  return html`<form class="filters" onSubmit=${(event) => event.preventDefault()}
    onInput=${(event) => replace(linkTo('routes', null,
      { key, ...queryOf(event.currentTarget) }))}>
    <label class="wide">${text('routes.find')}<input name="find" type="search"
      defaultValue=${find ?? ''} autocomplete="off" spellcheck=${false} /></label></form>`;
}

/** The routes with the word in their name, owner, patterns or targets, by their file. */
function inForce(all, word) {
  const fits = ({ name, owner: its, match, except, required, optional }) =>
    JSON.stringify([name, its, match, except, required, optional])
      .toLowerCase().includes(JSON.stringify(word).slice(1, -1).toLowerCase());
  const found = all.filter(fits);
  if (!found.length) return quiet(text('routes.none'));
  const columns = [[text('route'), 'name'], [text('route.match')], [text('route.told')],
    [text('routes.place')]];
  const owner = (name) => session.targets.get(name)?.owner ?? '';
  return [
    routesByFile(found.slice(0, SHOWN)).map(({ file, owner: its, routes }) => html`
      <section key=${file}><h3><code>${file}</code><span class="owner">${its}</span></h3>
      ${table(file, columns, routes.map((route) => ({
        key: route.name,
        cells: [route.name, patterns(route), whoIsTold(route, owner),
          html`<code>${file.split('/').pop()}:${route.line}</code>`],
      })), 'routes')}</section>`),
    found.length > SHOWN && quiet(text('routes.first', { n: SHOWN, all: number(found.length) })),
  ];
}

/** The targets of a route, each with its role and its owner. */
function whoIsTold(route, owner) {
  return html`<ul>${['required', 'optional'].map((as) => route[as].map((name) => html`
    <li>${targetLink(name)} <span class="role ${as}">${text(`as.${as}`)}</span>${' '}
      <span class="owner">${owner(name)}</span></li>`))}</ul>`;
}

/** The files whose text on disk is not in force, and why. */
function refused(files) {
  return files.map(({ file, owner, earlier, problems }) => html`<div class="panel bad" key=${file}>
    <p><b>${textNodes(earlier ? 'routes.refused' : 'routes.left_out',
      { file: html`<code>${file}</code>`, owner: owner ? ` (${owner})` : '' })}</b></p>
    ${problems.length ? listOf(problems, 'problems') : quiet(text('routes.waits'))}</div>`);
}

function reloads(all) {
  if (!all.length) return quiet(text('routes.no_reloads'));
  return html`<ol class="steps">${all.map((each) => html`
    <li class=${each.result === 'taken' ? 'good' : 'bad'}>${ago(each.at)}<div>
      <p>${text(`reload.${each.result}`)} <code>${each.hash?.slice(0, 12)}</code>${' '}
        <span class="owner">${each.owner}</span></p>
      ${each.result !== 'taken' ? listOf(each.problems, 'problems')
        : each.changes.length ? listOf(each.changes, 'diff') : quiet(text('reload.nothing'))}
    </div></li>`)}</ol>`;
}

/** Lines in the loader's words: problems with their positions, or changes. */
function listOf(lines, kind) {
  return html`<ul class=${kind}>${lines.map((line) => html`<li>${line}</li>`)}</ul>`;
}
