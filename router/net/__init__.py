"""The network: addresses, listeners, TLS, who may call, and where events may go."""
