"""Commands for what was handled: trace, archive."""
