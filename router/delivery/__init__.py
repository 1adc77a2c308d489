"""An event to its targets and back: decide, send, remember, retry, tell."""
