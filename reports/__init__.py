"""The audit report: one self-contained HTML file made from the store."""

from auditor.reports.page import write_report

__all__ = ["write_report"]
