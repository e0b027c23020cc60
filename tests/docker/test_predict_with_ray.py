"""predict_with_ray.py on a local Ray: 300 pictures through a killed run, a resumed one and killed workers."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conftest import bare_environment

# Both are told by the labels and probabilities that predict.py gives under the same settings.
TOLD = {"THRESHOLD": "0.2", "MAX_TEXT_TOKENS": "16"}
COLUMNS = [
    "path",
    "probability",
    "label",
    "categories",
    "probability_text",
    "probability_image_text",
    "caption",
    "text",
    "unseen_frames",
    "unseen_text",
    "error",
    "milliseconds",
]
MARK = "PREDICT_WITH_RAY_TEST"
# Python imports this before anything else: whoever opens this one picture dies at once, as by an error in a decoder.
DEADLY = """
import os, sys
def die(event, arguments):
    if event == "open" and str(arguments[0]).endswith("deadly.png"):
        os.kill(os.getpid(), 9)
sys.addaudithook(die)
"""


def marked(mark: str) -> list[psutil.Process]:
    """Living processes that a run started with this mark, Ray's own and their workers among them."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def stages(mark: str, stage: str) -> list[psutil.Process]:
    return [process for process in marked(mark) if f"MapBatches({stage})" in " ".join(process.cmdline())]


def wait_for(what, seconds: float = 300):
    """What `what()` gives as soon as that is true; the limit is for a test that hangs, not for a slow machine."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def mark():
    """In the environment of every run of this file; whatever has it is ended with the file's last test."""
    mark = uuid.uuid4().hex
    yield mark
    for process in marked(mark):
        process.kill()


@pytest.fixture(scope="module")
def models(models, category_llm_dir):
    """With a chat model that is asked for categories."""
    return {**models, "LLM_DIR": str(category_llm_dir)}


@pytest.fixture(scope="module")
def start(repo, models, mark):
    """Start predict_with_ray.py; one reader, one scorer, small batches."""

    def start_run(folder: Path, **settings) -> subprocess.Popen:
        small = {"OCR_WORKERS": "1", "BATCH_SIZE": "6", "ROWS_A_FILE": "20", "MAX_MEGAPIXELS": "1"}
        with open(folder / "log", "ab") as log:
            return subprocess.Popen(
                [sys.executable, str(repo / "docker/predict_with_ray.py")],
                stdout=log,
                stderr=log,
                env=bare_environment({**models, **TOLD, **small, MARK: mark, **settings}),
            )

    return start_run


@contextmanager
def cluster(mark: str, pythonpath: Path):
    """Settings that find a Ray which was started beforehand, as a cluster of one machine."""
    import ray

    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            MARK: mark,
            "PYTHONPATH": str(pythonpath),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "disabled",
        }.items():
            environment.setenv(name, value)
        try:
            ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
            yield {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "RAY_AUTH_MODE": "disabled"}
            assert ray.cluster_resources()["CPU"] == 4  # a run ends itself, not the cluster
        finally:
            ray.shutdown()


@contextmanager
def served(folder: Path):
    """Address of an HTTP server over a folder that fails each file's first request: a second try is needed."""
    requested = set()

    class FailsAtFirst(SimpleHTTPRequestHandler):
        def do_GET(self):
            if self.path in requested:
                super().do_GET()
            else:
                requested.add(self.path)
                self.send_error(503)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(FailsAtFirst, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def rows_of(output: Path) -> list[dict]:
    return [row for file in sorted(output.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def committed(folder: Path) -> list[Path]:
    return [path for path in (folder / "output.checkpoint").glob("*.parquet") if ".pending." not in path.name]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, draw_meme) -> tuple[list[str], dict[str, str]]:
    """(300 paths, {bad one: its error}): 30 with words, 255 small ones without, 15 bad ones, one of them deadly."""
    folder = tmp_path_factory.mktemp("pictures")
    words = ["KOPI TIME", "HELLO", "NO RICE", "BYE BYE", "LATE", "APA INI"]
    for number in range(285):
        text, size = (words[number % 6], (180, 80)) if number < 30 else ("", (48, 32))
        draw_meme(text, size, (number * 37 % 256, number * 91 % 256, number * 53 % 256)).save(folder / f"{number}.png")
    (folder / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (folder / "folder.png").mkdir()
    draw_meme("", (1100, 1000)).convert("1").save(folder / "large.png")
    errors = {
        "corrupt.png": "not_an_image",
        "folder.png": "not_a_file",
        "large.png": "too_many_pixels",
        **{f"missing{number}.png": "missing" for number in range(11)},
    }
    paths = [str(folder / name) for name in [*(f"{number}.png" for number in range(285)), *errors]]
    random.Random(3).shuffle(paths)
    draw_meme("", (48, 32)).save(folder / "deadly.png")
    paths.insert(200, str(folder / "deadly.png"))
    return paths, {str(folder / name): error for name, error in {**errors, "deadly.png": "reader_died"}.items()}


@pytest.fixture(scope="module")
def killed(start, mark, pictures, tmp_path_factory):
    """A run over a list of paths, killed after its first files, and what it left."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "sitecustomize.py").write_text(DEADLY)
    listed = folder / "list.txt"
    listed.write_text("\n".join([*pictures[0], pictures[0][0], "", pictures[0][1]]))
    process = start(folder, INPUT=listed, OUTPUT=folder / "output", PYTHONPATH=folder)
    wait_for(lambda: len(committed(folder)) >= 3 or process.poll() is not None)
    alive = len(marked(mark))
    process.kill()
    process.wait()
    return {
        "folder": folder,
        "alive": alive,
        "left": wait_for(lambda: not marked(mark)),
        "done": [path for file in committed(folder) for path in pq.read_table(file)["path"].to_pylist()],
        "files": {file: (folder / "output" / f"{file.stem}-0.parquet").read_bytes() for file in committed(folder)},
    }


def table_of(pictures: list[str], memes_dir: Path, address: str) -> list[dict]:
    """Rows as `datasets` keeps pictures; where one has no bytes its path is opened."""
    by_bytes = [
        {"path": f"bytes{number}", "image": {"bytes": (memes_dir / f"{number}.png").read_bytes()}}
        for number in range(3)
    ]
    by_address = [{"path": f"{address}/{number}.png"} for number in range(3)]
    broken = [{"path": "broken", "image": {"bytes": b"no picture"}}, {"path": f"{address}/none.png"}]
    return [*({"path": path} for path in pictures), *by_bytes, *by_address, *broken]


@pytest.fixture(scope="module")
def resumed(start, mark, killed, pictures, memes_dir):
    """The killed run's rest and eight pictures more, as a table and on a cluster; its scorer is killed, too."""
    folder = killed["folder"]
    for path in killed["done"]:  # scored again, these would be missing
        Path(path).unlink(missing_ok=True)
    # What a crash in the middle of a write leaves: a file without an end, and the word that it was begun.
    (folder / "output" / "begun_000000-0.parquet").write_bytes(next(iter(killed["files"].values()))[:500])
    (folder / "output.checkpoint" / "begun_000000.pending.parquet").write_bytes(b"PAR1 half")
    with served(memes_dir) as address, cluster(mark, folder) as settings:
        rows = table_of(pictures[0], memes_dir, address)
        pq.write_table(pa.Table.from_pylist(rows[-8:] + rows[:-8]), folder / "memes.parquet", row_group_size=70)
        process = start(folder, INPUT=f"file://{folder}/memes.parquet", OUTPUT=f"local://{folder}/output/", **settings)
        try:
            wait_for(lambda: len(committed(folder)) > len(killed["files"]) or process.poll() is not None)
            at_the_kill = sum(pq.read_table(file).num_rows for file in committed(folder))
            for victim in (victims := stages(mark, "ScorerActor")):
                os.kill(victim.pid, signal.SIGKILL)
            status = process.wait(300)
        finally:
            process.kill()
    return {
        "status": status,
        "rows": {row["path"]: row for row in rows_of(folder / "output")},
        "address": address,
        "victims": len(victims),
        "at_the_kill": at_the_kill,
        "log": (folder / "log").read_text(),
    }


def test_each_of_300_pictures_has_one_row_with_its_score_or_its_error(killed, resumed, pictures):
    assert resumed["status"] == 0, resumed["log"][-4000:]
    paths, errors = pictures
    assert len(rows_of(killed["folder"] / "output")) == 308 and resumed["rows"].keys() > set(paths)
    assert "308 rows" in resumed["log"] and "17 failed (12 missing" in resumed["log"]
    rows = [resumed["rows"][path] for path in paths]
    assert {row["path"]: row["error"] for row in rows if row["error"]} == errors
    assert {row["label"] for row in rows if row["probability"] < 0.5} == {0, 1}, "no label shows the threshold"
    assert "MAX_TEXT_TOKENS=16 lowers the model's limit of 256 tokens a view" in resumed["log"]
    for row in rows:
        assert list(row) == COLUMNS
        if row["error"]:
            assert (row["probability"], row["label"], row["caption"], row["text"]) == (0.5, 1, None, "")
            assert row["categories"] == []
        else:
            views = [row[name] for name in ("probability_text", "probability_image_text") if row[name] is not None]
            assert row["probability"] == pytest.approx(sum(views) / len(views)) and row["caption"] is not None
            assert row["label"] == int(float(f"{row['probability']:.4f}") >= 0.2)
            assert sum(dict(row["categories"]).values()) == pytest.approx(1, abs=1e-6)
            assert min(row["milliseconds"][stage] for stage in ("decode", "pixels", "ocr", "caption", "score")) >= 0


def test_a_killed_run_leaves_no_process_and_is_resumed_where_it_stopped(killed, resumed):
    assert killed["alive"] > 4 and killed["left"]
    assert 40 <= len(killed["done"]) < 300 and f"{len(killed['done'])} rows in OUTPUT, 0.0 rows/s" in resumed["log"]
    output = killed["folder"] / "output"
    for file, content in killed["files"].items():
        assert (output / f"{file.stem}-0.parquet").read_bytes() == content
    assert not list(output.glob("begun*")) and not list((output.parent / "output.checkpoint").glob("*.pending.*"))


def test_a_killed_scorer_is_replaced_in_the_middle(killed, resumed):
    assert resumed["victims"] == 1
    assert len(killed["done"]) < resumed["at_the_kill"] < 300


def test_bytes_and_addresses_give_what_the_files_give(resumed, memes_dir, run_script, models, killed, pictures):
    """And predict.py gives the same, to 1e-4."""
    rows, address = resumed["rows"], resumed["address"]
    assert (rows["broken"]["error"], rows[f"{address}/none.png"]["error"]) == ("not_an_image", "missing")
    keys = {str(memes_dir / f"{number}.png"): (f"bytes{number}", f"{address}/{number}.png") for number in range(3)}
    left = [path for path in pictures[0] if path not in killed["done"]]
    words = [path for path in left if Path(path).stem.isdigit() and int(Path(path).stem) < 30]
    keys |= {path: (path,) for path in words[:6] + left[:40] if not path.endswith("deadly.png")}
    evidence = killed["folder"] / "exact.jsonl"
    exact = run_script(
        "docker/predict.py",
        {**models, **TOLD, "MAX_MEGAPIXELS": "1", "DETAILS_PATH": evidence},
        stdin="\n".join(keys).encode(),
    )
    assert exact.returncode == 0, exact.stderr.decode()
    proofs = [json.loads(line) for line in evidence.read_text().splitlines()]
    assert len({round(proof["probability"], 3) for proof in proofs}) > 10 and any(proof["text"] for proof in proofs)
    assert any(proof["categories"] for proof in proofs), "what could not be scored has none"
    for proof in proofs:
        for row in (rows[key] for key in keys[proof["path"]]):
            for name in ("probability", "probability_text", "probability_image_text"):
                assert row[name] == pytest.approx(proof[name], abs=1e-4)
            assert dict(row["categories"]) == pytest.approx(proof["categories"], abs=1e-4)
            assert bool(proof["categories"]) != bool(proof["error"])
            assert all(row[name] == proof[name] for name in ("label", "caption", "text", "error"))
