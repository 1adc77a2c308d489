"""Services on one loop."""
