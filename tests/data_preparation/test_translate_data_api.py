"""translate_data_api.py as a user runs it, through the real Google client against the stand-in server."""

import json
import signal
import subprocess
import sys

import pytest

from stand_in_server import Fault, StandIn, translated

SCRIPT = "data_preparation/translate_data_api.py"
KEY = "AIza-secret"


def google_error(status, reason, message="stand-in refuses", **headers):
    error = {"code": status, "message": message, "errors": [{"reason": reason, "domain": "usageLimits"}]}
    return Fault(status=status, headers=headers, body=json.dumps({"error": error}).encode())


def write_source(folder, files, items=5, text="the bus is late again, number"):
    folder.mkdir()
    for run in range(1, files + 1):
        numbers = [(run - 1) * items + index for index in range(items)]
        (folder / f"{run:04d}.json").write_text(
            json.dumps(
                {
                    "asked": {"model": "some/model", "prompt_key": "general_ok", "run": run, "fingerprint": "f"},
                    "label": "ok",
                    "category": "general",
                    "language": "en",
                    "source": None,
                    "reply": {},
                    "items": [
                        {"image": f"a bus {n}", "text": f"{text} {n}", "category": f"c{n}", "group": f"g{n}"}
                        for n in numbers
                    ],
                }
            )
        )
    return folder


def settings_for(server, source, **settings):
    return {"API_KEY": KEY, "LANGUAGE": "zh", "DIR_NAME": source, "GOOGLE_TRANSLATE_ENDPOINT": server.url, **settings}


def load(path):
    return json.loads(path.read_text())


def test_files_are_translated_in_batches_within_the_limits(run_script, tmp_path):
    source = write_source(tmp_path / "model_general_ok", files=60)
    with StandIn() as server:
        done = run_script(SCRIPT, settings_for(server, source, PRICE_PER_MCHAR=20))
    assert done.returncode == 0, done.stderr
    assert [len(request.body["q"]) for request in server.requests] == [125, 125, 50]
    for request in server.requests:
        assert request.path == "/language/translate/v2" and request.headers["x-goog-api-key"] == KEY
        assert (request.body["format"], request.body["source"], request.body["target"]) == ("text", "en", "zh")
    folder = tmp_path / "zh_model_general_ok"
    assert {path.name for path in folder.iterdir()} == {f"{run:04d}.json" for run in range(1, 61)}
    original, copy = load(source / "0031.json"), load(folder / "0031.json")
    assert copy["items"] == [{**item, "text": translated(item["text"], "zh")} for item in original["items"]]
    assert (copy["label"], copy["language"], copy["source"]["file"]) == ("ok", "zh", "model_general_ok/0031.json")
    assert KEY.encode() not in done.stdout + done.stderr and b"cost" in done.stderr
    with StandIn() as server:
        again = run_script(SCRIPT, settings_for(server, source))
    assert again.returncode == 0 and not server.requests and b"60 were there" in again.stdout


def test_long_texts_stay_below_100_kb_a_request(run_script, tmp_path):
    source = write_source(tmp_path / "model_general_ok", files=4, text="巴士又迟到了" * 700)
    with StandIn() as server:
        run_script(SCRIPT, settings_for(server, source, LANGUAGE="ta"))
    whole = [request for request in server.requests if len(request.texts) > 1]
    assert max(request.size for request in server.requests) <= 100_000
    assert sum(len(request.texts) for request in whole) >= 15


@pytest.mark.parametrize(
    "fault",
    [
        google_error(403, "rateLimitExceeded"),
        google_error(403, "userRateLimitExceeded"),
        Fault(status=429),
        google_error(429, "rateLimitExceeded", **{"Retry-After": "1"}),
    ],
    ids=["403 rate", "403 user rate", "429", "429 told"],
)
def test_rate_limits_are_waited_out(run_script, tmp_path, fault):
    source = write_source(tmp_path / "model_general_ok", files=1)
    with StandIn(script=[fault]) as server:
        done = run_script(SCRIPT, settings_for(server, source, MAX_RETRIES=0))
    assert done.returncode == 0, done.stderr
    assert len(server.requests) == 2 and server.requests[1].moment - server.requests[0].moment > 0.9
    assert b"1 rate-limited" in done.stderr


@pytest.mark.parametrize(
    "fault",
    [
        google_error(403, "forbidden", f"key {KEY} may not"),
        google_error(400, "badRequest", "API key not valid."),
        google_error(401, "unauthorized"),
    ],
    ids=["403", "400 key", "401"],
)
def test_other_refusals_stop_at_once_with_the_remedy(run_script, tmp_path, fault):
    source = write_source(tmp_path / "model_general_ok", files=60)
    with StandIn(script=lambda request: fault) as server:
        done = run_script(SCRIPT, settings_for(server, source))
    assert done.returncode == 1 and b"set API_KEY" in done.stderr and KEY.encode() not in done.stderr
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        google_error(403, "dailyLimitExceeded", "Daily Limit Exceeded"),
        google_error(403, "userRateLimitExceeded", "Quota exceeded for limit 'characters per day per user'"),
        google_error(
            429, "rateLimitExceeded", "Quota exceeded for limit 'characters per day'", **{"Retry-After": "60"}
        ),
    ],
    ids=["daily", "per user per day", "429 per day"],
)
def test_a_quota_of_the_day_stops_the_run_with_googles_words_and_keeps_what_is_there(run_script, tmp_path, fault):
    source = write_source(tmp_path / "model_general_ok", files=60)
    with StandIn(script=lambda request: None if request.number == 0 else fault) as server:
        done = run_script(SCRIPT, settings_for(server, source), timeout=120)
    assert done.returncode == 1 and b"Exceeded" in done.stderr.replace(b"exceeded", b"Exceeded")
    assert b"25 files of this call kept" in done.stderr and b"wait until it is renewed" in done.stderr
    assert len(server.requests) == 2 and b"35 missing" in done.stdout


def test_files_that_are_paid_for_are_kept_when_a_request_for_one_of_them_is_stopped(run_script, tmp_path):
    source = write_source(tmp_path / "model_general_ok", files=3)
    spent = google_error(403, "dailyLimitExceeded", "Daily Limit Exceeded")

    def script(request):
        done = [text if text.endswith(" 1") else translated(text, "zh") for text in request.texts]
        return Fault(translations=done) if request.number == 0 else spent

    with StandIn(script=script) as server:
        done = run_script(SCRIPT, settings_for(server, source))
    assert done.returncode == 1 and len(server.requests) == 2
    assert {path.name for path in (tmp_path / "zh_model_general_ok").glob("*.json")} == {"0002.json", "0003.json"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_a_wait_that_says_why_it_is(repo, tmp_path, number):
    source = write_source(tmp_path / "model_general_ok", files=60)
    fault = google_error(429, "rateLimitExceeded", "too many characters a minute", **{"Retry-After": "3600"})
    with StandIn(script=lambda request: None if request.number == 0 else fault) as server:
        settings = {name: str(value) for name, value in settings_for(server, source).items()}
        process = subprocess.Popen(
            [sys.executable, str(repo / SCRIPT)], env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        while b"waiting" not in (line := process.stderr.readline()):
            assert line, "it ended without a word about its wait"
        process.send_signal(number)
        output, errors = process.communicate(timeout=120)
    assert b"3,600 s" in line and b"too many characters a minute" in line
    assert process.returncode == 130 and b"wrote 25 files" in output and b"Traceback" not in errors, errors
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503),
        Fault(cut_after=30),
        Fault(body=b'{"data": {"transl'),
        Fault(latency_s=1.5),
        Fault(translations=["too few"]),
    ],
    ids=["500", "503", "reset", "truncated", "timeout", "wrong count"],
)
def test_passing_errors_are_retried(run_script, tmp_path, fault):
    source = write_source(tmp_path / "model_general_ok", files=1)
    with StandIn(script=[fault]) as server:
        done = run_script(SCRIPT, settings_for(server, source, REQUEST_TIMEOUT_S=1))
    assert done.returncode == 0, done.stderr
    assert len(server.requests) == 2 and b"1 retries" in done.stderr


def test_an_error_that_stays_leaves_the_files_missing_and_is_told(run_script, tmp_path):
    source = write_source(tmp_path / "model_general_ok", files=1)
    with StandIn(script=lambda request: Fault(status=500)) as server:
        done = run_script(SCRIPT, settings_for(server, source, MAX_RETRIES=1))
    assert done.returncode == 1 and b"1 missing" in done.stdout and len(server.requests) == 2
    assert not list((tmp_path / "zh_model_general_ok").glob("*.json"))


def test_what_is_no_translation_is_requested_alone_once_then_dropped(run_script, tmp_path):
    source = write_source(tmp_path / "model_general_ok", files=1)

    def script(request):
        return Fault(translations=[text if text.endswith(" 3") else translated(text, "zh") for text in request.texts])

    with StandIn(script=script) as server:
        done = run_script(SCRIPT, settings_for(server, source))
    assert done.returncode == 0 and b"4 items, 1 dropped" in done.stdout
    assert [len(request.texts) for request in server.requests] == [5, 1]
    copy = load(tmp_path / "zh_model_general_ok" / "0001.json")
    assert [item["group"] for item in copy["items"]] == ["g0", "g1", "g2", "g4"]
    assert [(entry["group"], entry["reason"]) for entry in copy["dropped"]] == [("g3", "untranslated")]


def test_languages_are_codes(run_script, tmp_path):
    source = write_source(tmp_path / "model_general_ok", files=1)
    for value, told in (("Chinese", b"ms, ta, zh"), ("en_US:en", b"GNU gettext")):
        refused = run_script(SCRIPT, {"API_KEY": KEY, "LANGUAGE": value, "DIR_NAME": source})
        assert refused.returncode == 2 and told in refused.stderr and KEY.encode() not in refused.stderr


def test_interrupt_finishes_the_request_under_way_then_stops(repo, tmp_path):
    source = write_source(tmp_path / "model_general_ok", files=60)
    with StandIn(latency_s=0.5) as server:
        settings = {name: str(value) for name, value in settings_for(server, source).items()}
        process = subprocess.Popen(
            [sys.executable, str(repo / SCRIPT)], env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert server.wait_for(1)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and b"wrote 25 files" in output, errors
    assert len(server.requests) == 1 and len(list((tmp_path / "zh_model_general_ok").glob("*.json"))) == 25
