"""predict.py as a judge runs it: paths in, one line out for each."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

LINE = re.compile(rb"^[01]\.\d{4}\t[01]$")


def result_lines(stdout: bytes) -> list[bytes]:
    """The lines of stdout, each checked for its exact form, nothing before, between or after them."""
    assert stdout == b"" or stdout.endswith(b"\n")
    lines = stdout.split(b"\n")[:-1]
    assert all(LINE.match(line) for line in lines), stdout
    return lines


def as_stdin(paths) -> bytes:
    return b"".join(os.fsencode(path) + b"\n" for path in paths)


@pytest.fixture
def start(repo, models):
    """Start predict.py with pipes, to talk to it; ended with the test."""
    started = []

    def start_predict(**settings):
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "OMP_NUM_THREADS": "1",
            **models,
            **settings,
        }
        process = subprocess.Popen(
            [sys.executable, str(repo / "docker/predict.py")],
            env=environment,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start_predict
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


def run_over(run_script, settings, lines) -> dict:
    done = run_script("docker/predict.py", settings, stdin=as_stdin(lines))
    assert done.returncode == 0, done.stderr.decode()
    return {
        "answers": [line.decode().split("\t") for line in result_lines(done.stdout)],
        "stderr": done.stderr.decode(),
    }


@pytest.fixture(scope="module")
def plain(run_script, models, memes_dir):
    """Eight memes scored one by one."""
    settings = {**models, "BATCH_SIZE": "1", "PROGRESS_SECONDS": "600"}
    return run_over(run_script, settings, [memes_dir / f"{number}.png" for number in range(8)])


@pytest.fixture(scope="module")
def told(run_script, models, memes_dir):
    """The same, told to do some things otherwise, and two lines that cannot be scored."""
    settings = {"THRESHOLD": "0.3", "MAX_TEXT_TOKENS": "8", "BATCH_SIZE": "4", "PROGRESS_SECONDS": "0.000001"}
    lines = [*(memes_dir / f"{number}.png" for number in range(8)), "none.png", "none.png"]
    return run_over(run_script, {**models, "MAX_WAIT_MS": "2000", **settings}, lines)


def test_one_line_for_each_path_in_order_whatever_fails(run_script, models, memes_dir, tmp_path):
    corrupt = tmp_path / "corrupt.png"
    corrupt.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    paths = [memes_dir / "0.png", memes_dir / "none.png", memes_dir / "1.png", corrupt, memes_dir / "2.png"]
    done = run_script(
        "docker/predict.py",
        {**models, "FALLBACK_PROBABILITY": "0.25", "STRICT": "1"},
        stdin=as_stdin(paths).removesuffix(b"\n"),
    )
    assert done.returncode == 1, done.stderr.decode()
    lines = result_lines(done.stdout)
    assert [line == b"0.2500\t0" for line in lines] == [False, True, False, True, False]
    assert b"5 lines done, 2 failed (1 missing, 1 not_an_image)" in done.stderr


def test_a_score_does_not_depend_on_batch_or_order(run_script, models, memes_dir, plain):
    paths = [memes_dir / f"{number % 8}.png" for number in range(24)]
    shuffled = random.Random(2).sample(range(24), 24)
    alone = plain["answers"]
    together = result_lines(
        run_script(
            "docker/predict.py",
            {**models, "BATCH_SIZE": "64", "MAX_WAIT_MS": "2000", "TOKENS_A_ROW": "500"},
            stdin=as_stdin(paths[number] for number in shuffled),
        ).stdout
    )
    assert len({printed for printed, _ in alone}) > 4, "the memes must differ for this test to mean anything"
    for number, line in zip(shuffled, together, strict=True):
        assert float(line.split()[0]) == pytest.approx(float(alone[number % 8][0]), abs=0.0005)


def test_a_client_that_waits_for_each_answer_gets_it(start, memes_dir):
    process = start()
    for number in range(4):
        process.stdin.write(as_stdin([memes_dir / f"{number}.png"]))
        assert LINE.match(process.stdout.readline().rstrip(b"\n"))
    started = time.monotonic()
    process.stdin.write(as_stdin([memes_dir / "none.png"]))
    assert process.stdout.readline() == b"0.5000\t1\n"
    assert time.monotonic() - started < 5
    children = psutil.Process(process.pid).children(recursive=True)
    process.stdin.close()
    assert process.wait(120) == 0
    assert not [child for child in children if child.is_running()]


def test_sigterm_ends_with_whole_lines(start, memes_dir):
    process = start(BATCH_SIZE="2")
    process.stdin.write(as_stdin([memes_dir / "0.png"] * 200))
    first = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    rest, stderr = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, stderr.decode()
    lines = result_lines(first + rest)
    assert 1 <= len(lines) < 200
    assert f"{len(lines)} lines done".encode() in stderr


def test_sigterm_while_waiting_for_a_line_ends_at_once(start, memes_dir):
    process = start()
    process.stdin.write(as_stdin([memes_dir / "0.png"]))
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 128 + signal.SIGTERM


def test_a_closed_stdout_ends_it_quietly(start, memes_dir):
    process = start(BATCH_SIZE="1")
    process.stdin.write(as_stdin([memes_dir / "0.png"] * 100))
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == 0
    assert b"Traceback" not in process.stderr.read()


def test_without_a_captioner_the_text_alone_is_judged(run_script, models, memes_dir, tmp_path):
    lines = as_stdin([memes_dir / "0.png", memes_dir / "2.png"])
    settings = {**models, "DETAILS_PATH": tmp_path / "details.jsonl"}
    del settings["CAPTION_MODEL_DIR"]
    done = run_script("docker/predict.py", settings, stdin=lines, timeout=120)
    with_text, wordless = [json.loads(line) for line in (tmp_path / "details.jsonl").read_text().splitlines()]
    assert done.returncode == 0 and len(result_lines(done.stdout)) == 2
    assert b"no CAPTION_MODEL_DIR: pictures are judged by their text alone" in done.stderr
    assert with_text["probability"] == with_text["probability_text"] and with_text["probability_image_text"] is None
    assert with_text["caption"] is None and "caption" not in with_text["milliseconds"]
    assert (wordless["probability"], wordless["error"]) == (0.5, "nothing_to_score")


def test_thousands_of_lines_in_one_process_with_flat_memory(start, tmp_path, draw_meme):
    """5,000 lines, one in ten bad, over pictures small enough that reading them takes milliseconds."""
    sizes = [(24 + 8 * number, 16 + 4 * number) for number in range(6)]
    for number, size in enumerate(sizes):
        draw_meme("", size, (9 * number, 90, 120)).save(tmp_path / f"{number}.png")
    paths = [tmp_path / (f"{number % 6}.png" if number % 10 else "none.png") for number in range(5000)]
    process = start(BATCH_SIZE="64", MAX_CAPTION_TOKENS="3")
    writer = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=process.stdin)
    process.stdin.close()
    feed = as_stdin(paths)
    sizes, lines = [], []
    import threading

    feeding = threading.Thread(target=lambda: (writer.stdin.write(feed), writer.stdin.close()))
    feeding.start()
    watched = psutil.Process(process.pid)
    for number in range(5000):
        lines.append(process.stdout.readline().rstrip(b"\n"))
        if number % 500 == 499:
            sizes.append(watched.memory_info().rss / 2**20)
    feeding.join()
    assert process.stdout.read() == b"" and process.wait(120) == 0
    assert [line == b"0.5000\t1" for line in lines] == [number % 10 == 0 for number in range(5000)]
    assert max(sizes[4:]) - sizes[3] < 60, f"MiB after every 500 lines: {sizes}"
    writer.wait()


def test_threshold_and_token_limit_take_effect(plain, told):
    """Labels follow THRESHOLD, or scoring.json's 0.5; less of the text gives other probabilities, and is said."""
    assert all(int(label) == (float(printed) >= 0.5) for printed, label in plain["answers"])
    assert all(int(label) == (float(printed) >= 0.3) for printed, label in told["answers"])
    assert len({label for printed, label in told["answers"] if float(printed) < 0.5}) == 2, "no label shows it"
    assert plain["answers"] != told["answers"][: len(plain["answers"])]
    assert "predict.py: MAX_TEXT_TOKENS=8 lowers the model's limit of 256 tokens a view\n" in told["stderr"]
    assert "lowers" not in plain["stderr"]


def test_a_progress_line_now_and_then_counts_what_is_done(plain, told):
    often = re.findall(r"^predict.py: (\d+) lines done, (\d) failed, \d+\.\d images/s$", told["stderr"], re.M)
    assert often == [("4", "0"), ("8", "0"), ("10", "2")]
    summary = r"^predict.py: 10 lines done, 2 failed \(2 missing\), \d+\.\d images/s; start-up \d+\.\d s$"
    assert re.search(summary, told["stderr"], re.M)
    assert plain["stderr"].count("lines done") == 1, "PROGRESS_SECONDS are not over"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"LLM_DIR": "/none"}, b"LLM_DIR"),
        ({"BATCH_SIZE": "0"}, b"BATCH_SIZE"),
        ({"THRESHOLD": "2"}, b"THRESHOLD"),
        (
            {"MAX_TEXT_TOKENS": "257"},
            b"MAX_TEXT_TOKENS=257: the model was trained and evaluated with 256 tokens a view",
        ),
        ({"DEVICE": "tpu"}, b"DEVICE"),
        ({"CAPTION_MODEL_DIR": "/none"}, b"CAPTION_MODEL_DIR"),
        ({"STRICT": "perhaps"}, b"STRICT"),
    ],
)
def test_bad_settings_are_named_before_anything_is_read(run_script, models, settings, named):
    done = run_script("docker/predict.py", {**models, **settings}, stdin=b"a.png\n", timeout=120)
    assert done.returncode == 2 and done.stdout == b""
    assert named in done.stderr and b"Traceback" not in done.stderr


def test_a_folder_that_is_no_guard_model_is_refused_in_one_line(run_script, models, tmp_path):
    done = run_script("docker/predict.py", {**models, "LLM_DIR": tmp_path}, stdin=b"a.png\n")
    assert done.returncode == 2 and done.stdout == b""
    assert b"attach_policy" in done.stderr and b"Traceback" not in done.stderr
