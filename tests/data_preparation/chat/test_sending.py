"""Pace: one cut a burst, pauses as told, growth back to what was refused. Waits: backoff and Retry-After."""

import asyncio
import time

import pytest

from chat import sending
from chat.sending import (
    HOPELESS_REFUSALS,
    HOPELESS_S,
    KEPT_AFTER_REFUSAL,
    AbortRunError,
    Pace,
    RefusedStreak,
    StoppedError,
    StopSignal,
    Usage,
    WaitNotices,
    backoff_seconds,
    retry_after_seconds,
)


def test_a_burst_of_refusals_cuts_the_limit_once():
    async def burst():
        pace = Pace(10, 32, StopSignal())
        entries = [await pace.enter() for _ in range(10)]
        for entered in entries:
            pace.refused(entered, None, "429: busy")
            pace.leave()
        assert pace.limit == pytest.approx(10 * KEPT_AFTER_REFUSAL)

    asyncio.run(burst())


def test_it_grows_from_low_to_most_and_never_beyond():
    async def climb():
        pace = Pace(2, 32, StopSignal())
        for _ in range(20):
            pace.succeeded()
        assert pace.limit == 32

    asyncio.run(climb())


def test_a_pause_as_told_holds_every_later_entry():
    async def paused():
        pace = Pace(4, 4, StopSignal())
        pace.refused(await pace.enter(), 0.2, "429: busy")
        pace.leave()
        before = time.monotonic()
        await pace.enter()
        assert time.monotonic() - before > 0.19

    asyncio.run(paused())


def test_an_hour_of_pause_ends_when_the_run_is_stopped():
    async def stopped():
        stop = StopSignal()
        pace = Pace(4, 4, stop)
        pace.refused(await pace.enter(), 3600, "429: busy")
        pace.leave()
        waiting = asyncio.create_task(pace.enter())
        await asyncio.sleep(0)
        stop.set("enough")
        with pytest.raises(StoppedError):
            await asyncio.wait_for(waiting, 1)

    asyncio.run(stopped())


def test_the_limit_never_falls_below_one():
    async def refused():
        pace = Pace(1, 8, StopSignal())
        for _ in range(5):
            pace.refused(await pace.enter(), 0.0, "429: busy")
            pace.leave()
        assert pace.limit == 1

    asyncio.run(refused())


def test_backoff_doubles_with_jitter_up_to_its_longest():
    assert all(0.25 <= backoff_seconds(0) <= 0.5 and 2 <= backoff_seconds(3) <= 4 for _ in range(50))
    assert backoff_seconds(1000) <= 60


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after": "86400"}, 86400),
        ({}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
    ],
)
def test_retry_after_in_all_its_forms(headers, seconds):
    assert retry_after_seconds(headers) == seconds


@pytest.mark.parametrize(("price_in", "cost"), [(None, ""), (2.0, ", cost 0.0040")])
def test_usage_is_summed_and_priced_by_the_million(price_in, cost):
    usage = Usage(requests=1_200, retries=3)
    for reply in (
        {"usage": {"prompt_tokens": 1_000, "completion_tokens": 7}},
        {"usage": None},
        {},
        {"usage": ["many"]},
    ):
        usage.add(reply)
    usage.add({"usage": {"prompt_tokens": 1_000}})
    line = "1,200 requests (3 retries, 0 rate-limited), 2,000 tokens in, 7 out"
    assert usage.summary(price_in, None) == line + cost


@pytest.fixture
def clock(monkeypatch):
    """A clock that only the test moves."""
    now = [1_000.0]
    monkeypatch.setattr(sending.time, "monotonic", lambda: now[0])
    return now


def test_a_long_wait_is_said_once_with_its_reason(clock, capsys):
    notices = WaitNotices()
    for seconds in (10.0, 60.0, 60.2, 5.0):
        notices.say(seconds, "429: too many requests")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("waiting 60 s, until ") and "429: too many requests" in said[0]
    clock[0] += 30
    notices.say(7200, "429: come back later")
    assert "waiting 7,200 s" in capsys.readouterr().err


def test_short_waits_in_a_row_are_said_once_a_minute(clock, capsys):
    notices, said = WaitNotices(), 0
    for waited in range(0, 180, 5):
        notices.say(5, "503: busy", waited)
        said += len(capsys.readouterr().err.splitlines())
        clock[0] += 5
    assert said == 3


def test_refusals_on_end_are_not_waited_out_for_ever(clock):
    streak = RefusedStreak()
    for _ in range(2 * HOPELESS_REFUSALS):
        streak.refused()
        streak.check("429: no")
    clock[0] += HOPELESS_S
    with pytest.raises(AbortRunError, match="429: no"):
        streak.check("429: no")
    streak.answered()
    streak.refused()
    streak.check("429: no")


def test_two_waits_of_hours_as_told_are_no_endless_streak(clock):
    streak = RefusedStreak()
    for _ in range(3):
        streak.refused()
        streak.check("429: after Retry-After")
        clock[0] += 7200
