"""The gate: one cut a burst, pauses as told, growth back to what was refused."""

import asyncio
import time

import pytest

from adaptive_pace import KEPT_AFTER_REFUSAL, Pace, Stop, Stopped, backoff_seconds
from together_chat import plain_base_url, retry_after_seconds


def test_a_burst_of_refusals_cuts_the_limit_once():
    async def burst():
        pace = Pace(10, 32, Stop())
        entries = [await pace.enter() for _ in range(10)]
        for entered in entries:
            pace.refused(entered, None)
            pace.leave()
        assert pace.limit == pytest.approx(10 * KEPT_AFTER_REFUSAL)

    asyncio.run(burst())


def test_it_grows_from_low_to_most_and_never_beyond():
    async def climb():
        pace = Pace(2, 32, Stop())
        for _ in range(20):
            pace.succeeded()
        assert pace.limit == 32

    asyncio.run(climb())


def test_a_pause_as_told_holds_every_later_entry():
    async def paused():
        pace = Pace(4, 4, Stop())
        pace.refused(await pace.enter(), 0.2)
        pace.leave()
        before = time.monotonic()
        await pace.enter()
        assert time.monotonic() - before > 0.19

    asyncio.run(paused())


def test_an_hour_of_pause_ends_when_the_run_is_stopped():
    async def stopped():
        stop = Stop()
        pace = Pace(4, 4, stop)
        pace.refused(await pace.enter(), 3600)
        pace.leave()
        waiting = asyncio.create_task(pace.enter())
        await asyncio.sleep(0)
        stop.set("enough")
        with pytest.raises(Stopped):
            await asyncio.wait_for(waiting, 1)

    asyncio.run(stopped())


def test_the_limit_never_falls_below_one():
    async def refused():
        pace = Pace(1, 8, Stop())
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


@pytest.mark.parametrize("address", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_the_sdk_adds_v1_itself(address):
    assert plain_base_url(address) == "http://h:1" and plain_base_url(None) is None
