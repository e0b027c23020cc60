"""When a run stops by itself: most of a window of replies failed; and when not."""

import asyncio

from chat.job_runner import FAIR_WINDOW, FailureWatch, run_jobs
from chat.sending import AbortRunError, StopSignal


def judged(replies):
    """The reason for stopping after (number, outcome) of replies in the order in which they came in."""

    async def run():
        stop = StopSignal()
        failures = FailureWatch(stop)
        for _ in range(1 + max(number for number, _ in replies)):
            failures.start()
        for number, outcome in replies:
            failures.record(number, outcome)
        return stop.reason

    return asyncio.run(run())


def test_most_of_a_window_failing_stops_and_names_the_commonest():
    outcomes = ["ok"] * 9 + ["length"] * 4 + ["refusal"] * 7
    reason = judged(list(enumerate(outcomes)))
    assert "11 of the last 20" in reason and "refusal" in reason
    assert judged(list(enumerate(["ok"] * 10 + ["refusal"] * 10))) is None
    assert judged(list(enumerate(["refusal"] * (FAIR_WINDOW - 1)))) is None


def test_failures_that_came_back_first_wait_for_the_answers_requested_before_them():
    fast = [(number, "refusal") for number in range(0, 60, 3)]
    slow = [(number, "ok") for number in range(60) if number % 3]
    assert judged(fast + slow) is None


def test_one_slow_request_does_not_hide_that_all_others_failed():
    assert judged([(number, "refusal") for number in range(1, 1 + 2 * FAIR_WINDOW)])


def test_failures_are_summed_most_frequent_first():
    failures = FailureWatch(StopSignal())
    for outcome in ("length", "ok", "refusal", "refusal"):
        failures.record(failures.start(), outcome)
    assert failures.summary() == "2 refusal, 1 length"


def test_an_abort_leaves_the_jobs_that_were_not_begun():
    async def run():
        stop, begun = StopSignal(), []

        async def work(job):
            begun.append(job)
            if job == 3:
                raise AbortRunError("set API_KEY to a valid one")

        await run_jobs(range(10), work, 1, stop)
        return begun, stop.reason

    assert asyncio.run(run()) == ([0, 1, 2, 3], "set API_KEY to a valid one")
