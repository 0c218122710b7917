"""Text and one self-contained HTML page about a run; draws, computes nothing. Loads no torch."""

from kudari.report.page import write_report
from kudari.report.text import text_summary

__all__ = ["text_summary", "write_report"]
