"""What people see of measurements: the report, a page on one text, tables, the verdict; in English and Chinese."""

from bimo.evaluation.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]
