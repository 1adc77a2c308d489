"""What became of an event, told out of the archive and the store: one timeline of all."""

from __future__ import annotations
