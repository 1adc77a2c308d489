"""The callback port: HTTP in, the contract's replies out."""
