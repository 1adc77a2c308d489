"""The EBaaS callback router."""

__version__ = "0.2.0"
