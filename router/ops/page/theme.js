// Light or dark: as the system has it, until the reader chooses.

const KEPT = 'ebaas-router-theme';

export function themeNow() {
  return localStorage.getItem(KEPT)
    ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
}

/** What is the system's own choice is not kept: then it changes with the system's. */
export function wear(theme) {
  const system = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  if (theme === system) localStorage.removeItem(KEPT);
  else localStorage.setItem(KEPT, theme);
  document.documentElement.dataset.theme = theme === system ? '' : theme;
}
