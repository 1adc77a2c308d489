"""PostgreSQL, for several nodes: the same rows, on a server that all of them share."""
