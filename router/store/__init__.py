"""Durable rows of events that are not settled: SQLite, PostgreSQL, none."""
