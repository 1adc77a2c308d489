"""Finding events and their stories, in the archive and the store together."""
