"""Shared exams: what every member of a name table must pass.

Only tests import this. Each exam raises `AssertionError` at the first rule
that is broken; the tests hold a mutant against each.
"""

from effarch.testing.attention import check_attention, check_growth
from effarch.testing.layers import check_block, check_layer
from effarch.testing.reports import check_report
from effarch.testing.resume import check_resumes
from effarch.testing.structures import check_structured
from effarch.testing.techniques import check_technique

__all__ = [
  "check_attention",
  "check_block",
  "check_growth",
  "check_layer",
  "check_report",
  "check_resumes",
  "check_structured",
  "check_technique",
]
