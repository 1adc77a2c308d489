// What happens, as it happens: server-sent events, read by fetch because a token goes in a header.

import { Gone, reach } from './api.js';

/** The router says something every 15 s at least; silence for longer is a cut, in milliseconds. */
const SILENCE = 40_000;

/** Before it is tried again, in milliseconds; the last one repeats. */
const WAITS = [500, 1000, 2000, 5000];

/**
 * Follows the stream until it is closed: `hear(kind, data)` for each happening, `mark(isLive)`
 * whenever it is cut off, or there again.
 */
export function follow(query, hear, mark) {
  const closing = new AbortController();
  keepFollowing(query, hear, mark, closing.signal);
  return () => closing.abort();
}

async function keepFollowing(query, hear, mark, closed) {
  const path = `stream?${new URLSearchParams(query)}`;
  for (let tries = 0; !closed.aborted; tries += 1) {
    const silent = new AbortController();
    try {
      const signal = AbortSignal.any([closed, silent.signal]);
      const response = await reach(path, { signal });
      // Who is not let in has no stream, and a wrong token is not sent over and over.
      if (response.status === 401) return;
      if (!response.ok) throw new Gone(`HTTP ${response.status}`);
      const heard = (kind, data) => {
        // The first beat says that whatever comes from now on will be heard.
        if (kind === 'beat') mark(true);
        tries = 0;
        hear(kind, data);
      };
      await read(response.body, heard, silent);
    } catch {
      // Whatever ended it, it is tried again.
    }
    if (closed.aborted) return;
    mark(false);
    await pause(WAITS[Math.min(tries, WAITS.length - 1)], closed);
  }
}

async function read(body, hear, silent) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const timer = setTimeout(() => silent.abort(), SILENCE);
    const { done, value } = await reader.read().finally(() => clearTimeout(timer));
    if (done) return;
    const blocks = (rest + value).split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) tell(block, hear);
  }
}

/** One block of lines; comments are left out. */
function tell(block, hear) {
  let kind = 'message';
  const data = [];
  for (const line of block.split('\n')) {
    if (line.startsWith('event:')) kind = line.slice(6).trim();
    else if (line.startsWith('data:')) data.push(line.slice(5).trimStart());
  }
  if (data.length) hear(kind, JSON.parse(data.join('\n')));
}

function pause(milliseconds, closed) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    closed.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
