// Loads the page, and reloads it once if a part of it does not arrive.

import('./main.js').catch(() => {
  document.getElementById('page').textContent =
    'The page could not be loaded; it is tried again. 页面加载失败，正在重试。';
  setTimeout(() => location.reload(), 2000);
});
