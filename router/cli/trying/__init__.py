"""Commands to try things with: demo, send, receive, listen, resend, probe."""
