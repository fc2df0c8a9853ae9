"""The report of a design: one HTML file that needs nothing else."""

from archgen.report.html import write_report

__all__ = ["write_report"]
