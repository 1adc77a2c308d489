"""The durable rows of what is not wholly settled: SQLite, PostgreSQL, none."""
