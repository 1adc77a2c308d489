// Nodes: the processes that accept callbacks, and differences between them.

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
  const columns = [[text('node'), 'name'], [text('nodes.state')], [text('nodes.address')],
    [text('nodes.version')], [text('nodes.config')], [text('nodes.up'), 'number'],
    [text('events'), 'number'], [text('hour.failed'), 'number'],
    [text('target.in_flight'), 'number'], [text('nodes.trouble')]];
  const config = mostOf(all, 'config');
  const version = mostOf(all, 'version');
  return table(text('nodes'), columns, all.map((node) => ({
    key: node.node_id || `${node.host} ${node.pid}`,
    cells: [
      `${node.host} ${node.pid}`,
      stateOf(node),
      node.address,
      marked(node.version, node.version === version),
      html`<code>${marked(node.config.slice(0, 12), node.config === config)}</code>`,
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

/** Mark a value that differs from most nodes. */
function marked(value, isUsual) {
  return isUsual ? value : html`<b class="bad" title=${text('nodes.differs')}>${value}</b>`;
}

function mostOf(all, field) {
  const counts = new Map();
  for (const node of all.filter((each) => !each.gone)) {
    counts.set(node[field], (counts.get(node[field]) ?? 0) + 1);
  }
  return [...counts].sort(([, one], [, other]) => other - one)[0]?.[0];
}
