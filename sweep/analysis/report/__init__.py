"""A run as one page that opens from disk."""

from sweep.analysis.report.page import report

__all__ = ["report"]
