"""The nouns: an event, an attempt to deliver it, a secret, and what goes wrong."""
