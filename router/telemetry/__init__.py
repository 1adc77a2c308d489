"""What the router tells of itself: log lines, metrics, traces, marks, the loop's lag."""
