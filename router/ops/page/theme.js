// Light or dark: the system's choice, until the reader chooses.

const KEPT = 'ebaas-router-theme';

export function themeNow() {
  return localStorage.getItem(KEPT)
    ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
}

/** The system's own choice is not stored, so that it can change with the system. */
export function setTheme(theme) {
  const system = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  if (theme === system) localStorage.removeItem(KEPT);
  else localStorage.setItem(KEPT, theme);
  document.documentElement.dataset.theme = theme === system ? '' : theme;
}
