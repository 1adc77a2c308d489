"""Events, attempts to deliver them, secrets and errors."""
