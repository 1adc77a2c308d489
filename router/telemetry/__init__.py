"""The router's output about itself: log, metrics, traces, alarms, the loop's lag."""
