"""Pace: one cut a burst, pauses as told, growth back to what was refused. Waits: backoff and Retry-After."""

import asyncio
import time

import pytest

from chat.sending import KEPT_AFTER_REFUSAL, Pace, StoppedError, StopSignal, Usage, backoff_seconds, retry_after_seconds


def test_a_burst_of_refusals_cuts_the_limit_once():
    async def burst():
        pace = Pace(10, 32, StopSignal())
        entries = [await pace.enter() for _ in range(10)]
        for entered in entries:
            pace.refused(entered, None)
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
        pace.refused(await pace.enter(), 0.2)
        pace.leave()
        before = time.monotonic()
        await pace.enter()
        assert time.monotonic() - before > 0.19

    asyncio.run(paused())


def test_an_hour_of_pause_ends_when_the_run_is_stopped():
    async def stopped():
        stop = StopSignal()
        pace = Pace(4, 4, stop)
        pace.refused(await pace.enter(), 3600)
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
            pace.refused(await pace.enter(), 0.0)
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
    for reply in ({"usage": {"prompt_tokens": 1_000, "completion_tokens": 7}}, {"usage": None}, {}):
        usage.add(reply)
    usage.add({"usage": {"prompt_tokens": 1_000}})
    line = "1,200 requests (3 retries, 0 rate-limited), 2,000 tokens in, 7 out"
    assert usage.summary(price_in, None) == line + cost
