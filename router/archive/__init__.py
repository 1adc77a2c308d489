"""What was handled, kept for a while, a line each. Nothing that is promised depends on it."""

from __future__ import annotations

from router.archive.shelf import Shelf
from router.archive.writer import Archive

__all__ = ["Archive", "Shelf"]
