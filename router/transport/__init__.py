"""Bytes over HTTP: one POST to one target, by one of two engines."""
