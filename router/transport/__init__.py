"""Bytes over HTTP: one POST to one target, by interchangeable engines."""
