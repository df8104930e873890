"""The tasks of Long Range Arena (arXiv:2011.04006)."""
