"""generate_data.py where the provider, the disk or the user stops it: what is paid for is kept, and nothing is torn."""

import email.utils
import json
import random
import signal
import subprocess
import sys
import time

import pytest

from generation_run import KEY, SCRIPT, failures_in, runs, settings_for, tree
from stand_in_server import Fault, StandIn


@pytest.mark.parametrize("status", [429, 503])
def test_rate_limits_are_waited_out_as_told_and_lose_nothing(run_script, tmp_path, status):
    refusals = [Fault(status=status, headers={"Retry-After": "1"})] * 6
    with StandIn(script=refusals) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=8, MAX_RETRIES=0, MAX_ATTEMPTS=1))
    assert done.returncode == 0, done.stderr
    assert set(tree(tmp_path)) == runs(*range(1, 9))
    assert server.statuses().count(status) == 6 and len(server.requests) == 14
    burst_ends = max(request.moment for request in server.requests[:6])
    assert all(request.moment - burst_ends > 0.9 for request in server.requests[8:])


def test_a_burst_that_names_no_time_is_waited_out_too(run_script, tmp_path):
    with StandIn(script=[Fault(status=503)] * 8) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=8, MAX_RETRIES=0, MAX_ATTEMPTS=1))
    assert done.returncode == 0, done.stderr
    assert set(tree(tmp_path)) == runs(*range(1, 9)) and len(server.requests) == 16
    assert server.requests[8].moment - server.requests[7].moment > 0.2


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=408),
        Fault(status=409),
        Fault(status=502),
        Fault(cut_after=40),
        Fault(body=b'{"choices": [{"index": 0, "message": {"role": "assi'),
        Fault(body=b"<html>gateway</html>"),
        Fault(latency_s=1.5),
    ],
    ids=["500", "408", "409", "502", "reset", "truncated", "html", "timeout"],
)
def test_passing_errors_are_retried(run_script, tmp_path, fault):
    with StandIn(script=[fault]) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=1, REQUEST_TIMEOUT_S=1))
    assert done.returncode == 0, done.stderr
    assert set(tree(tmp_path)) == runs(1) and len(server.requests) == 2
    assert b"2 requests (1 retries" in done.stderr


@pytest.mark.parametrize("status", [400, 404, 422])
def test_lasting_errors_are_not_retried_but_kept(run_script, tmp_path, status):
    with StandIn(script=lambda request: Fault(status=status)) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=1))
    assert done.returncode == 1
    without_schema = status in (400, 422)  # sent once more without response_format, which the model may not take
    assert len(server.requests) == 1 + without_schema
    assert [failure["reason"] for failure in failures_in(tmp_path).values()] == [f"http_{status}"]
    assert set(tree(tmp_path)) == {"in-model_general_ok/failed/0001-1.json"}


def test_a_model_that_takes_no_schema_is_asked_without_it(run_script, tmp_path):
    body = b'{"error": {"message": "response_format json_schema is not supported"}}'

    def script(request):
        return Fault(status=400, body=body) if "response_format" in request.body else None

    with StandIn(script=script) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=3, MAX_IN_FLIGHT=1))
    assert done.returncode == 0, done.stderr
    assert ["response_format" in request.body for request in server.requests] == [True, False, False, False]


def test_a_server_that_does_not_say_why_is_tried_without_the_schema_each_time(run_script, tmp_path):
    def script(request):
        return Fault(status=400) if "response_format" in request.body else None

    with StandIn(script=script) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=2, MAX_IN_FLIGHT=1))
    assert done.returncode == 0, done.stderr
    assert ["response_format" in request.body for request in server.requests] == [True, False, True, False]


def test_a_content_filter_costs_one_run_and_no_schema(run_script, tmp_path):
    filtered = json.dumps({"error": {"code": "content_filter", "message": "the prompt was filtered"}}).encode()
    with StandIn(script=[Fault(status=400, body=filtered)]) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=3, MAX_IN_FLIGHT=1))
    assert done.returncode == 1 and b"1 content_filter" in done.stdout
    assert ["response_format" in request.body for request in server.requests] == [True] * 3
    assert {name for name in tree(tmp_path) if "failed" not in name} == runs(2, 3)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (
            429,
            {"message": "You exceeded your current quota", "type": "insufficient_quota", "code": "insufficient_quota"},
        ),
        (402, {"message": "Credits are gone"}),
        (429, {"message": "Rate limit exceeded: free-models-per-day"}),
        (200, {"message": "Insufficient credits", "code": 402}),
    ],
    ids=["insufficient_quota", "402", "per day", "402 in 200"],
)
def test_a_quota_that_is_used_up_stops_the_run_soon_with_the_providers_words(run_script, tmp_path, status, error):
    fault = Fault(status=status, body=json.dumps({"error": error}).encode(), headers={"Retry-After": "3600"})
    with StandIn(script=lambda request: None if request.number < 2 else fault) as server:
        one_by_one = settings_for(server, tmp_path, NUM_RUNS=50, START_IN_FLIGHT=1, MAX_IN_FLIGHT=1)
        done = run_script(SCRIPT, one_by_one, timeout=120)
    assert done.returncode == 1 and error["message"].encode() in done.stderr and b"Add credit" in done.stderr
    assert b"2 runs of this call kept" in done.stderr and b"48 missing" in done.stdout
    assert set(tree(tmp_path)) == runs(1, 2)
    with StandIn() as server:
        assert run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=3)).returncode == 0
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_stops_the_run_at_once_with_the_remedy(run_script, tmp_path, status):
    body = json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()
    with StandIn(script=lambda request: Fault(status=status, body=body)) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=200, START_IN_FLIGHT=4))
    assert done.returncode == 1 and b"API_KEY" in done.stderr and KEY.encode() not in done.stderr
    assert len(server.requests) <= 4 and not tree(tmp_path)


def test_replies_that_are_unusable_are_kept_with_their_reason_and_requested_again(run_script, tmp_path):
    faults = [
        Fault(finish_reason="length"),
        Fault(finish_reason="content_filter", content=""),
        Fault(content=""),
        Fault(content="I'm sorry, but I can't help with that."),
        Fault(content="Here you go!"),
    ]
    with StandIn(script=faults) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=5, MAX_IN_FLIGHT=1, MAX_ATTEMPTS=2))
    assert done.returncode == 1, "run 1 and 2 use up both their attempts"
    kept = failures_in(tmp_path)
    assert {name: failure["reason"] for name, failure in kept.items()} == {
        "0001-1.json": "length",
        "0001-2.json": "content_filter",
        "0002-1.json": "empty",
        "0002-2.json": "refusal",
        "0003-1.json": "malformed",
    }
    assert kept["0002-2.json"]["reply"]["choices"][0]["message"]["content"].startswith("I'm sorry")
    assert {name for name in tree(tmp_path) if "failed" not in name} == runs(3, 4, 5)
    with StandIn() as server:
        again = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=5))
    assert again.returncode == 0 and len(server.requests) == 2


def test_a_run_whose_replies_mostly_fail_stops_early_and_says_why(run_script, tmp_path):
    with StandIn(script=lambda request: Fault(content="I cannot assist with that request.")) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=500))
    assert done.returncode == 1 and b"refusal" in done.stderr and b"stopped early" in done.stderr
    assert len(server.requests) < 100


def test_fast_failures_alone_do_not_stop_a_run_whose_slow_answers_are_good(run_script, tmp_path):
    def script(request):
        return Fault(content="no") if request.number % 3 == 0 else Fault(latency_s=0.3)

    with StandIn(script=script) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=60, START_IN_FLIGHT=32, MAX_ATTEMPTS=9))
    assert done.returncode == 0, done.stderr


def started(repo, settings):
    from_user = {name: str(value) for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, str(repo / SCRIPT)], env=from_user, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_interrupt_finishes_what_is_in_flight_then_stops(repo, run_script, tmp_path):
    with StandIn(latency_s=0.5) as server:
        process = started(repo, settings_for(server, tmp_path, NUM_RUNS=100, MAX_IN_FLIGHT=4, START_IN_FLIGHT=4))
        assert server.wait_for(4)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert b"4 runs" in output and len(tree(tmp_path)) == 4 and len(server.requests) == 4


@pytest.mark.parametrize("told", ["7200", "date"])
def test_hours_of_retry_after_are_waited_for_and_an_interrupt_ends_the_wait(repo, tmp_path, told):
    wait = email.utils.formatdate(time.time() + 7200, usegmt=True) if told == "date" else told
    with StandIn(script=lambda request: Fault(status=429, headers={"Retry-After": wait})) as server:
        process = started(repo, settings_for(server, tmp_path, MAX_IN_FLIGHT=2, START_IN_FLIGHT=2))
        assert server.wait_for(2)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and b"4 missing" in output, errors
    assert len(server.requests) == 2 and not tree(tmp_path)
    said = [line for line in errors.splitlines() if line.startswith(b"waiting")]
    assert len(said) == 1 and b" s, until " in said[0] and b"429: stand-in says 429" in said[0]


def test_sigterm_ends_the_wait_for_a_server_that_stays_away(repo, tmp_path):
    fault = Fault(status=500, headers={"Retry-After": "3600"})
    with StandIn(script=lambda request: fault) as server:
        process = started(repo, settings_for(server, tmp_path, NUM_RUNS=1))
        assert server.wait_for(1)
        while b"waiting" not in (line := process.stderr.readline()):
            assert line, "it ended without a word about its wait"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert b"http_500" in line and process.returncode == 130


def test_content_in_chunks_is_read_and_no_paid_reply_is_lost(run_script, tmp_path):
    def replied(content, **reply):
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        return Fault(body=json.dumps({"choices": [choice], **reply}).encode())

    items = json.dumps({"memes": [{"image": "a cat \ud83d", "text": "hello 😀"}] * 5})
    script = [
        replied([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": items}]),
        replied([{"type": "text", "text": 7}], usage="many"),
        replied({"memes": [{"image": "a dog", "text": "bye"}, {"image": "a bus"}]}, usage={"prompt_tokens": "9"}),
    ]
    with StandIn(script=script) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=3, MAX_IN_FLIGHT=1, MAX_ATTEMPTS=1))
    assert done.returncode == 1 and b"Traceback" not in done.stderr, done.stderr
    kept = {name: json.loads(content) for name, content in tree(tmp_path).items()}
    assert kept["in-model_general_ok/0001.json"]["items"][0]["text"] == "hello 😀"
    assert kept["in-model_general_ok/0001.json"]["items"][0]["image"] == "a cat"
    assert kept["in-model_general_ok/failed/0002-1.json"]["reason"] == "malformed"
    assert len(kept["in-model_general_ok/0003.json"]["items"]) == 1
    assert b"2 runs (6 items, 4 fewer than asked for, in 1 runs)" in done.stdout


def test_a_second_process_on_the_same_folder_is_refused(repo, run_script, tmp_path):
    with StandIn(latency_s=5) as server:
        process = started(repo, settings_for(server, tmp_path, NUM_RUNS=1))
        try:
            assert server.wait_for(1)
            refused = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=1))
        finally:
            process.kill()
            process.communicate()
    assert refused.returncode == 2 and b"another process" in refused.stderr and len(server.requests) == 1


def test_twenty_kills_lose_nothing_tear_nothing_and_pay_only_what_was_in_flight(repo, run_script, tmp_path):
    wanted, in_flight, chance = 120, 4, random.Random(7)
    settings = {"NUM_RUNS": wanted, "MAX_IN_FLIGHT": in_flight, "START_IN_FLIGHT": in_flight}
    with StandIn(latency_s=0.01) as server:
        for _ in range(20):
            process = started(repo, settings_for(server, tmp_path, **settings))
            assert server.wait_for(len(server.requests) + chance.randint(1, 9))
            process.kill()
            process.communicate()
            for path in tmp_path.rglob("[0-9]*.json"):
                json.loads(path.read_text())
        finished = run_script(SCRIPT, settings_for(server, tmp_path, **settings))
    assert finished.returncode == 0, finished.stderr
    assert set(tree(tmp_path)) == runs(*range(1, wanted + 1))
    replies = [json.loads(content)["reply"]["id"] for content in tree(tmp_path).values()]
    assert len(set(replies)) == wanted, "each reply is in one file"
    assert wanted <= len(server.requests) <= wanted + 20 * in_flight
