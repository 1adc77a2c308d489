"""What became of an event, told out of the archive, the store and the log: one timeline of all."""

from __future__ import annotations
