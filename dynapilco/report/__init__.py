"""Reports: one self-contained HTML file about a run or a comparison, and figures for papers.

>>> from dynapilco import report
>>> report.write("runs/x")  # doctest: +SKIP
PosixPath('runs/x/report.html')
"""

from dynapilco.report.writing import write

__all__ = ["write"]
