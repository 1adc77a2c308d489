// The live stream: server-sent events, read by fetch because the token is in a header.

import { Gone, reach } from './api.js';

/** The stream is broken after this silence, in milliseconds: the router beats every 15 s. */
const SILENCE = 40_000;

/** Waits before another try, in milliseconds; the last one repeats. */
const WAITS = [500, 1000, 2000, 5000];

/**
 * Follows the stream until it is closed. Calls `receive(kind, data)` for each event, and
 * `mark(isLive)` when the stream breaks or returns.
 */
export function follow(query, receive, mark) {
  const closing = new AbortController();
  keepFollowing(query, receive, mark, closing.signal);
  return () => closing.abort();
}

async function keepFollowing(query, receive, mark, closed) {
  const path = `stream?${new URLSearchParams(query)}`;
  for (let tries = 0; !closed.aborted; tries += 1) {
    const silent = new AbortController();
    try {
      const signal = AbortSignal.any([closed, silent.signal]);
      const response = await reach(path, { signal });
      // Without access there is no stream; a wrong token is not sent again.
      if (response.status === 401) return;
      if (!response.ok) throw new Gone(`HTTP ${response.status}`);
      const heard = (kind, data) => {
        // No event is missed from the first beat on.
        if (kind === 'beat') mark(true);
        tries = 0;
        receive(kind, data);
      };
      await read(response.body, heard, silent);
    } catch {
      // Any broken stream is tried again.
    }
    if (closed.aborted) return;
    mark(false);
    await pause(WAITS[Math.min(tries, WAITS.length - 1)], closed);
  }
}

async function read(body, receive, silent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const timer = setTimeout(() => silent.abort(), SILENCE);
    const { done, value } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    const blocks = (rest + value).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) tell(block, receive);
  }
}

/** One block of lines, without comments. */
function tell(block, receive) {
  let kind = 'message';
  const data = [];
  for (const line of block.split('\n')) {
    if (line.startsWith('event:')) kind = line.slice(6).trim();
    else if (line.startsWith('data:')) data.push(line.slice(5).trimStart());
  }
  if (data.length) receive(kind, JSON.parse(data.join('\n')));
}

function pause(milliseconds, closed) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    closed.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
