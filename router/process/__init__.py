"""Services on one loop, and several processes at one port."""
