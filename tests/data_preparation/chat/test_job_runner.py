"""When a run stops by itself: most of a fair window failed; and when not."""

import asyncio

import job_runner
from adaptive_pace import Stop
from job_runner import FAIR_WINDOW, Progress, Verdicts


def judged(notes):
    """The reason for stopping after (ticket, verdict) notes in the order in which replies came in."""

    async def run():
        stop = Stop()
        verdicts = Verdicts(stop)
        for _ in range(1 + max(ticket for ticket, _ in notes)):
            verdicts.ask()
        for ticket, verdict in notes:
            verdicts.note(ticket, verdict)
        return stop.reason

    return asyncio.run(run())


def test_most_of_a_window_failing_stops_and_names_the_commonest():
    verdicts = ["ok"] * 9 + ["length"] * 4 + ["refusal"] * 7
    reason = judged(list(enumerate(verdicts)))
    assert "11 of the last 20" in reason and "refusal" in reason
    assert judged(list(enumerate(["ok"] * 10 + ["refusal"] * 10))) is None
    assert judged(list(enumerate(["refusal"] * (FAIR_WINDOW - 1)))) is None


def test_failures_that_came_back_first_wait_for_the_answers_asked_before_them():
    fast = [(ticket, "refusal") for ticket in range(0, 60, 3)]
    slow = [(ticket, "ok") for ticket in range(60) if ticket % 3]
    assert judged(fast + slow) is None


def test_one_straggler_does_not_hide_that_all_others_failed():
    assert judged([(ticket, "refusal") for ticket in range(1, 1 + 2 * FAIR_WINDOW)])


def test_progress_without_a_terminal_is_plain_lines_with_rate_and_time_left(monkeypatch, capsys):
    monkeypatch.setattr(job_runner, "PLAIN_LINE_EVERY_S", 0)
    progress = Progress(4, "runs")
    progress._started -= 10
    progress.advance("1 refusal")
    assert capsys.readouterr().err == "1 runs of 4, 30 s left, 0.1/s 1 refusal\n"
