"""A world in which the delivery memory runs: simulated callers, targets, store and time."""
