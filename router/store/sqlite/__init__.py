"""SQLite in one file: nothing to install, durable to the last commit, owned by one process."""
