"""Commands for what a store has: deliveries, pauses, nodes."""
