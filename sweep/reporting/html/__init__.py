"""A run as one page that opens from disk."""

from sweep.reporting.html.page import report

__all__ = ["report"]
