"""Finding events, and telling what became of them, from the archive and the store together."""
