// Nodes: the processes that accept callbacks.

import './words.js';
import { ask } from '../api.js';
import { duration, isKnown, number, text } from '../logic.js';
import { Room, ago, quiet, reasonText, table, useLoad } from '../parts.js';
import { html } from '../vendor/preact.js';

export default function Nodes() {
  const loaded = useLoad(() => ask('nodes'), 'nodes');
  return html`<${Room} title=${text('nodes')} loaded=${loaded}>${({ shared, nodes }) => html`
    ${quiet(text(shared ? 'nodes.shared' : 'nodes.alone'))}
    ${nodes.length ? nodeTable(nodes) : quiet(text('nodes.none'))}`}<//>`;
}

function nodeTable(all) {
  const columns = [[text('node'), 'name'], [text('target.state')], [text('nodes.address')],
    [text('nodes.version')], [text('check.configuration')], [text('nodes.up'), 'number'],
    [text('events'), 'number'], [text('hour.failed'), 'number'],
    [text('target.in_flight'), 'number'], [text('nodes.trouble')]];
  return table(text('nodes'), columns, all.map((node) => ({
    key: node.node_id || `${node.host} ${node.pid}`,
    cells: [
      `${node.host} ${node.pid}`,
      stateOf(node),
      node.address,
      node.version,
      html`<code>${node.config.slice(0, 12)}</code>`,
      duration(node.uptime_seconds),
      ...['events', 'failed', 'in_flight'].map((name) => number(node.figures[name] ?? 0)),
      node.troubles.slice(0, 1).map((each) => [troubleText(each.what), ' ', ago(each.at)]),
    ],
  })));
}

function stateOf(node) {
  if (node.gone) {
    return html`<b class="bad">${text('nodes.gone', { age: duration(node.silent_seconds) })}</b>`;
  }
  return node.ready ? text('nodes.ready') : html`<b class="bad">${text('nodes.not_ready')}</b>`;
}

/** `SUBJECT: REASON`, where the subject is a target or a check. */
function troubleText(what) {
  const [, subject, reason] = /^(.*?): (.*)$/s.exec(what) ?? [null, '', what];
  const [, count, file] = /^refused, (\d+) problems? in (.+)$/.exec(reason) ?? [];
  return [isKnown(`check.${subject}`) ? text(`check.${subject}`) : subject, text('colon'),
    file ? text('nodes.refused', { n: Number(count), file }) : reasonText(reason)];
}
