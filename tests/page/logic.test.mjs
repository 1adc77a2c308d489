// Tests of the page's logic: `node --test tests/page`, or tests/ops/test_page.py.
//
// PAGE is a copy of the page in a folder whose package.json says that its files are modules.

import assert from 'node:assert/strict';
import { pathToFileURL } from 'node:url';
import { test } from 'node:test';

const at = (file) => import(pathToFileURL(`${process.env.PAGE}/${file}`));
await at('rooms/words.js');
const it = await at('logic.js');

const target = (name) => ({ name, required_by: [], optional_by: ['r'] });

test('a place survives the link to it', () => {
  const query = { what: 'a&b=c#d', failed: 'true' };
  assert.deepEqual(it.placeOf(it.linkTo('events', 'a/b?c', query)),
    { room: 'events', name: 'a/b?c', query });
  assert.deepEqual(it.placeOf(''), { room: 'now', name: null, query: {} });
  assert.equal(it.placeOf('#/events/100%').name, '100%');
  assert.equal(it.linkTo('dead', null, { state: '', target: 'x' }), '#/dead?target=x');
});

test('causes of a target are one trouble, in the order of the router', () => {
  const cause = (severity, code, params = {}, check = 'targets') =>
    ({ code, check, severity, params });
  const targets = [target('ledger'), target('healthy')];
  const found = it.troublesOf({ causes: [
    cause('critical', 'unmatched', {}, 'callbacks'),
    cause('critical', 'failing', { target: 'ledger' }),
    cause('critical', 'callbacks_refused', { code: '400' }, 'callbacks'),
    cause('critical', 'callbacks_refused', { code: '413' }, 'callbacks'),
    cause('warning', 'dead_letters', { target: 'ledger' }),
    cause('warning', 'dead_letters', { target: '(removed)' }),
  ] }, targets);
  assert.deepEqual(found.map(({ severity, cause: { code }, target: of }) =>
    [severity, code, of?.name]), [
    ['critical', 'unmatched', undefined], ['critical', 'failing', 'ledger'],
    ['critical', 'callbacks_refused', undefined], ['critical', 'callbacks_refused', undefined],
    ['warning', 'dead_letters', undefined],
  ]);
  assert.equal(new Set(found.map(({ key }) => key)).size, found.length);
});

test('a target without attempts or routes has no rate and no role', () => {
  assert.equal(it.failureRate({ lately: { attempts: 0, failed: 0 } }), null);
  assert.equal(it.failureRate({ lately: { attempts: 4, failed: 1 } }), 0.25);
  assert.equal(it.roleOf({ required_by: [], optional_by: [] }), null);
  assert.equal(it.roleOf({ required_by: ['a'], optional_by: ['b'] }), 'required');
});

test('the stream follows keys and patterns, not ids and times', () => {
  for (const [query, follows] of [[{}, true], [{ what: 'a.gs.*' }, true],
    [{ what: 'a.[xy].1' }, true], [{ target: 'ledger', failed: 'true' }, true],
    [{ what: 'order-17' }, false], [{ what: 'a.[' }, false], [{ what: 'a b.c' }, false],
    [{ what: 'https://a.b' }, false], [{ since: '1h' }, false], [{ code: '500' }, false]]) {
    assert.equal(it.isFollowed(query), follows, JSON.stringify(query));
  }
});

test('a result names the id by which it was found', () => {
  for (const [by, key] of [['event_id', 'event.id'], ['request_id', 'event.request_id'],
    ['trace_id', 'event.trace_id'], ['sha256', 'event.sha256'], ['changes', 'event.changes'],
    ['body', 'event.body'], ['event_key', null], ['', null], [undefined, null]]) {
    assert.equal(it.matchedBy({ matched_by: by }), key, by);
  }
});

test('the fault of a refused callback is a sentence', () => {
  for (const [language, wanted] of [
    ['en', ['event_type is empty', 'changes is missing', 'a.b has the wrong type',
      'no route matches', 'x: pattern', 'not JSON at line 1 column 2']],
    ['zh', ['event_type 为空', '缺少 changes', 'a.b 的类型不正确',
      '没有匹配的路由', 'x: pattern', 'not JSON at line 1 column 2']]]) {
    it.setLanguage(language);
    assert.deepEqual(['event_type: minLength', 'changes: required', 'a.b: type',
      'no route matches', 'x: pattern', 'not JSON at line 1 column 2'].map(it.faultText), wanted);
  }
});

test('lines are merged once each, the newest first', () => {
  const line = (at, more) => ({ at: `2026-11-29T10:00:0${at}Z`, event_id: 'e', request_id: 'r',
    what: 'request', ...more });
  const [one, two, three] = [line(1), line(2), line(3)];
  assert.deepEqual(it.merged([[two], [one, { ...two }, three]], 9), [three, two, one]);
  assert.deepEqual(it.merged([[three, two], [one]], 2), [three, two]);
  // Lines of the same time keep the order of arrival, and a later copy does not replace a row.
  const other = line(2, { event_id: 'f' });
  assert.deepEqual(it.merged([[other], [two]], 9), [other, two]);
});

test('lines are grouped by their event', () => {
  const line = (event_id, at) => ({ event_id, at });
  const lines = [line('a', 4), line('b', 3), line('a', 2), line('', 1), line('', 0)];
  assert.deepEqual(it.grouped(lines).map(({ last, earlier }) =>
    [last.at, earlier.map((each) => each.at)]), [[4, [2]], [3, []], [1, []], [0, []]]);
});

test('routes are grouped by file, and the files of an owner are together', () => {
  const route = (file, owner) => ({ file, owner });
  const routes = [route('b.yaml', 'team x'), route('common.yaml', null), route('a.yaml', 'team y'),
    route('b.yaml', 'team x'), route('c.yaml', 'team x')];
  assert.deepEqual(it.routesByFile(routes).map((each) =>
    [each.file, each.owner, each.routes.length]), [['common.yaml', '', 1],
    ['b.yaml', 'team x', 2], ['c.yaml', 'team x', 1], ['a.yaml', 'team y', 1]]);
});

test('numbers and durations are written in the language of the reader', () => {
  for (const [language, wanted] of [['en', ['59 s', '1 min 5 s', '12 min', '1 h 1 min', '2 d 3 h',
    '1,234', '25%', '3 ms', '12 s', '–']], ['zh', ['59 秒', '1 分 5 秒', '12 分钟', '1 小时 1 分',
    '2 天 3 小时', '1,234', '25%', '3 ms', '12 s', '–']]]) {
    it.setLanguage(language);
    assert.deepEqual([...[59, 65, 725, 3660, 183600].map(it.duration), it.number(1234),
      it.percent(0.25), it.milliseconds(3), it.milliseconds(12_000), it.milliseconds(null)], wanted);
  }
});

test('a time names its offset from UTC', () => {
  const at = '2026-11-29T09:41:02.123Z';
  assert.equal(it.wholeTime(at, 0), '2026-11-29 09:41:02 UTC');
  assert.equal(it.wholeTime(at, 480),
    '2026-11-29 17:41:02 UTC+08:00, 2026-11-29 09:41:02 UTC');
  assert.equal(it.wholeTime(at, -210),
    '2026-11-29 06:11:02 UTC-03:30, 2026-11-29 09:41:02 UTC');
});

test('a text gets its values, and the word that fits a number', () => {
  it.setLanguage('en');
  assert.equal(it.text('why.dead', { n: 1 }), '1 dead letter');
  assert.equal(it.text('why.dead', { n: 1200 }), '1,200 dead letters');
  assert.equal(it.text('no.such.key'), 'no.such.key');
  it.setLanguage('zh');
  const cause = { code: 'queued', text: 'ledger has 3 queued', params: { target: 'ledger', count: 3 } };
  assert.equal(it.causeText(cause), '业务端 ledger 有 3 条投递在队列中');
  assert.equal(it.causeText({ ...cause, code: 'newer' }), 'ledger has 3 queued');
  assert.equal(it.problemText({ code: 'missing', params: { name: 'key' }, detail: '' }), '缺少 key。');
});
