"""The command line: ``dynapilco train``, ``evaluate`` and ``list``."""
