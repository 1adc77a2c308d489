"""The platform's contract, both ways: callbacks read, replies made, waits, signatures."""
