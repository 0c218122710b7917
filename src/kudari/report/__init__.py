"""Text and one self-contained HTML page about a run; draws, computes nothing. Loads no torch."""

from kudari.report.page import write_report
from kudari.report.text import text_summary
from kudari.report.tuning import write_race, write_search, write_suggestion

__all__ = ["text_summary", "write_race", "write_report", "write_search", "write_suggestion"]
