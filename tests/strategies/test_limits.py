"""Limits as they are typed."""

import pytest

from effarch.errors import UserError
from effarch.strategies.limits import Limit, is_limit, parse_limit


@pytest.mark.parametrize(
  ("text", "column", "most"),
  [
    ("50KB", "size_bytes", 50_000),
    ("50 KB", "size_bytes", 50_000),
    ("50kb", "size_bytes", 50_000),
    ("64KiB", "size_bytes", 65_536),
    ("2 MiB", "size_bytes", 2 * 1024**2),
    ("2.01KB", "size_bytes", 2010),
    ("1.5MB", "size_bytes", 1_500_000),
    ("2GiB", "size_bytes", 2 * 1024**3),
    ("800 B", "size_bytes", 800),
    ("150us", "latency_us", 150),
    ("150µs", "latency_us", 150),  # Micro
    ("150μs", "latency_us", 150),  # Mu
    ("1.5 ms", "latency_us", 1500),
    ("500ns", "latency_us", 0.5),
    ("2s", "latency_us", 2_000_000),
    ("size_bytes<=50_000", "size_bytes", 50_000),
    ("size_bytes <= 50 KB", "size_bytes", 50_000),
    ("latency_us<=1e3", "latency_us", 1000),
    ("latency_p99_us<=1ms", "latency_p99_us", 1000),
    ("macs<=10M", "macs", 10_000_000),
    ("params<=1.5k", "params", 1500),
    ("train_seconds<=5min", "train_seconds", 300),
    ("train_seconds<=90", "train_seconds", 90),
  ],
)
def test_units_and_columns(text, column, most):
  assert is_limit(text)
  assert parse_limit(text) == Limit(column, most)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("macs", "limit 'macs': is none; write 50KB"),
    ("macs<10", "is none; write 50KB, 150us or 'COLUMN<=AMOUNT'"),
    ("macs>=10", "is none"),
    ("<=10", "is none"),
    ("50_000", "names neither column nor unit"),
    ("50 parsec", "names neither column nor unit"),
    ("macs<=10KB", "'KB' is no unit of macs; choose from k, m, g"),
    ("size_bytes<=1ms", "'ms' is no unit of size_bytes; choose from b, kb, mb"),
    ("size_bytes<=1.2.3", "'1.2.3' is no number"),
    ("size_bytes<=0", "is not above 0"),
    ("size_bytes<=-1", "is none"),
  ],
)
def test_what_says_no_limit_is_refused(text, message):
  with pytest.raises(UserError, match="limit ") as caught:
    parse_limit(text)
  assert message in str(caught.value)
  assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
  "path", ["runs/digits", "w=0.25,seed=1", "2024", "./50KB", "50KBs", "."]
)
def test_paths_are_no_limits(path):
  assert not is_limit(path)


def test_limit_is_shown_in_full():
  assert str(parse_limit("50KB")) == "size_bytes <= 50,000"
  assert str(parse_limit("500ns")) == "latency_us <= 0.5"
