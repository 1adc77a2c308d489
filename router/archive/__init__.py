"""What was handled, kept for a while, a line each. Nothing that is promised depends on it."""
