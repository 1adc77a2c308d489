// Loads the page, and reloads it once if a part of it does not arrive.

import { askEarly, token } from './api.js';

// The answers for the first view arrive while the modules do.
if (token()) askEarly(['you', 'status', 'minutes', 'targets']);

import('./main.js').catch(() => {
  document.getElementById('page').textContent =
    'The page could not be loaded; it is tried again. 页面加载失败，正在重试。';
  setTimeout(() => location.reload(), 2000);
});
