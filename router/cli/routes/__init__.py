"""Commands for routes.yaml: check, explain, test, diff, config, init."""
