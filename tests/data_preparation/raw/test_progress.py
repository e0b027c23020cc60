"""Progress lines: when they come, and what they say; on a terminal a bar."""

import sys

import pytest

from raw import progress
from raw.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets; they start at 100."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_lines_come_every_ten_seconds_with_rate_and_time_left(clock, capsys):
    counter = Progress(1_000, "runs")
    for second in range(1, 26):
        clock[0] = 100.0 + second
        counter.advance("1 refusal" if second > 15 else "", count=2)
    counter.close()
    assert capsys.readouterr().err.splitlines() == [
        "20 runs of 1,000, 490 s left, 2.0/s",
        "40 runs of 1,000, 480 s left, 2.0/s 1 refusal",
    ]


def test_an_unknown_total_shows_no_time_left(clock, capsys):
    counter = Progress(0, "items")
    clock[0] += 20
    counter.advance(count=5_000)
    assert capsys.readouterr().err == "5,000 items, 250.0/s\n"


def test_a_terminal_gets_a_bar_and_no_lines(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    counter = Progress(4, "runs")
    clock[0] += 20
    counter.advance("1 refusal", count=2)
    counter.close()
    shown = capsys.readouterr().err
    assert "50%" in shown and "2/4" in shown and "1 refusal" in shown and "s left" not in shown
