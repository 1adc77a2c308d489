"""The platform's contract: callbacks, replies, the retry schedule, signatures."""
