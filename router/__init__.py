"""The EBaaS callback router."""

__version__ = "0.1.0"
