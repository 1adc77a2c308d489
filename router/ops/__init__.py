"""The ops port: metrics, status, the console's API and its page."""
