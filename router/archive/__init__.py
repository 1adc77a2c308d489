"""The archive: a line for each handled event, kept for a while. No promise depends on it."""
