"""SHARD=i/n: shards of one job on several machines, in their own folders or in one, and cleaned as one."""

import json
import shutil
import subprocess
import sys
from collections import Counter

import pytest

from raw.shards import known_shard, owns
from stand_in_server import StandIn

GENERATE = "data_preparation/generate_data.py"
TRANSLATE = "data_preparation/translate_data.py"
TRANSLATE_API = "data_preparation/translate_data_api.py"
CLEAN = "data_preparation/clean_dataset.py"
SHARDS = ("1/3", "2/3", "3/3")


def generation(server, root, **settings):
    return {
        "MODEL_ID": "stand/in",
        "API_KEY": "k",
        "PROMPT_KEY": "general_ok",
        "NUM_RUNS": 7,
        "OUTPUT_ROOT": root,
        "TOGETHER_BASE_URL": server.url,
        **settings,
    }


def runs_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("[0-9]*.json")}


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ran(process):
    assert process.returncode == 0, process.stderr.decode()
    return process


@pytest.mark.parametrize("value", ["0/4", "5/4", "4", "1/0", "a/b", "-1/4", "1/4/4", "1/4.0", "1 of 4", "1/99999"])
def test_what_is_no_shard_is_refused(value):
    with pytest.raises(ValueError, match="set SHARD to i/n with i from 1 to n"):
        known_shard(value)


@pytest.mark.parametrize("script", [GENERATE, TRANSLATE, TRANSLATE_API])
def test_every_script_refuses_a_shard_that_is_none(run_script, tmp_path, script):
    refused = run_script(script, {"SHARD": "5/4", "OUTPUT_ROOT": tmp_path})
    assert refused.returncode == 2 and b"SHARD=5/4: not a shard; set SHARD to i/n" in refused.stderr


def test_each_run_belongs_to_one_shard_and_shards_are_alike_in_size():
    for count in (1, 2, 3, 7, 20):
        owners = [[i for i in range(1, count + 1) if owns(f"{i}/{count}", run)] for run in range(1, 101)]
        assert all(len(found) == 1 for found in owners)
        sizes = Counter(found[0] for found in owners)
        assert max(sizes.values()) - min(sizes.values()) <= 1 and set(sizes) == set(range(1, count + 1))


@pytest.fixture(scope="module")
def machines(run_script, tmp_path_factory):
    """Raw folders of the phrasebook and their Malay translations: of one machine (`whole`) and of three that share."""
    folder = tmp_path_factory.mktemp("machines")
    for name, shard in [("whole", None), *((f"machine{shard[0]}", shard) for shard in SHARDS)]:
        settings = {"SHARD": shard} if shard else {}
        ran(
            run_script(
                GENERATE,
                {"PROMPT_KEY": "general_ok,Reddit_offensive", "NUM_RUNS": 11, "OUTPUT_ROOT": folder / name, **settings},
            )
        )
        sources = f"{folder}/{name}/phrasebook_general_ok,{folder}/{name}/phrasebook_Reddit_offensive"
        ran(run_script(TRANSLATE, {"LANGUAGE": "Malay", "DIR_NAME": sources, **settings}))
    return folder


def test_three_shards_write_what_one_machine_writes_byte_for_byte(machines):
    whole = runs_in(machines / "whole")
    parts = [runs_in(machines / f"machine{number}") for number in (1, 2, 3)]
    assert len(whole) == 2 * 2 * 11 and sum(map(len, parts)) == len(whole)
    assert {name: content for part in parts for name, content in part.items()} == whole
    assert [len(part) for part in parts] == [16, 16, 12]


def test_cleaning_reads_shards_as_one(machines, run_script, tmp_path):
    """In several folders that are given together, in any order, or copied into one: byte for byte the same data set."""
    for number in (1, 2, 3):
        shutil.copytree(machines / f"machine{number}", tmp_path / "gathered", dirs_exist_ok=True)
    parts = [machines / f"machine{number}" for number in (3, 1, 2)]
    inputs = {
        "whole": machines / "whole",
        "gathered": tmp_path / "gathered",
        "apart": ",".join(map(str, parts)),
        "with_copies": f"{parts[0]}, {tmp_path / 'gathered'},{parts[2]}",
    }
    found = {}
    for name, raw in inputs.items():
        ran(run_script(CLEAN, {"RAW_ROOT": raw, "OUTPUT_DIR": tmp_path / name / "dataset", "TEST_FRACTION": "0.2"}))
        found[name] = files_in(tmp_path / name / "dataset")
    assert json.loads(found["whole"]["cleaning_report.json"])["items_read"] == 220
    assert found["gathered"] == found["apart"] == found["with_copies"] == found["whole"]


def test_two_files_of_one_name_that_differ_are_refused_by_name(machines, run_script, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(machines / "machine1", other)
    path = other / "phrasebook_general_ok" / "0004.json"
    path.write_text(path.read_text().replace("the", "teh"))
    refused = run_script(CLEAN, {"RAW_ROOT": f"{machines / 'machine1'},{other}", "OUTPUT_DIR": tmp_path / "dataset"})
    assert refused.returncode == 2 and str(path).encode() in refused.stderr and b"remove one of them" in refused.stderr
    assert {entry.name for entry in tmp_path.iterdir()} == {"other"}


def test_a_root_inside_another_is_refused(machines, run_script, tmp_path):
    roots = f"{machines},{machines / 'machine1'}"
    refused = run_script(CLEAN, {"RAW_ROOT": roots, "OUTPUT_DIR": tmp_path / "dataset"})
    assert refused.returncode == 2 and b"lies in" in refused.stderr


def started(repo, script, settings):
    from_user = {name: str(value) for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, str(repo / script)], env=from_user, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_shards_side_by_side_in_one_folder_request_each_run_once(repo, run_script, tmp_path):
    """As on a cluster with one file system. A rerun of a shard sends nothing, and one over all requests what is new."""
    keys = {"PROMPT_KEY": "general_ok,Singlish_ok"}
    with StandIn() as alone:
        ran(run_script(GENERATE, generation(alone, tmp_path / "alone", **keys)))
    with StandIn(latency_s=0.2) as server:
        processes = [
            started(repo, GENERATE, generation(server, tmp_path / "raw", SHARD=shard, **keys)) for shard in SHARDS
        ]
        outputs = [process.communicate(timeout=120) for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], outputs
        assert prompts(server) == prompts(alone) and set(prompts(server).values()) == {7}
        assert set(runs_in(tmp_path / "raw")) == set(runs_in(tmp_path / "alone"))
        before = files_in(tmp_path / "raw")
        again = ran(run_script(GENERATE, generation(server, tmp_path / "raw", SHARD="2/3", **keys)))
        assert b"wrote 0 runs (0 items)" in again.stdout and b"(4 were there, 0 missing)" in again.stdout
        assert len(server.requests) == 14 and files_in(tmp_path / "raw") == before
        more = ran(run_script(GENERATE, generation(server, tmp_path / "raw", NUM_RUNS=9, **keys)))
        assert b"(14 were there, 0 missing)" in more.stdout and len(server.requests) == 18


def prompts(server):
    return Counter(request.body["messages"][0]["content"] for request in server.requests)


@pytest.mark.parametrize("script", [TRANSLATE, TRANSLATE_API])
def test_shards_translate_each_text_once(run_script, machines, tmp_path, script):
    source = tmp_path / "raw" / "phrasebook_general_ok"
    shutil.copytree(machines / "whole" / "phrasebook_general_ok", source)
    language = "Tamil" if script == TRANSLATE else "ta"

    def settings_for(server, **settings):
        return {
            "MODEL_ID": "stand/in",
            "API_KEY": "k",
            "LANGUAGE": language,
            "DIR_NAME": source,
            "TOGETHER_BASE_URL": server.url,
            "GOOGLE_TRANSLATE_ENDPOINT": server.url,
            **settings,
        }

    sent_by = {}
    for shard in SHARDS:
        with StandIn() as server:
            ran(run_script(script, settings_for(server, SHARD=shard)))
            sent_by[shard] = [text for request in server.requests for text in request.texts]
    written = runs_in(source.parent)
    with StandIn() as server:
        again = ran(run_script(script, settings_for(server, SHARD="3/3")))
        assert not server.requests and b"(3 were there, 0 missing)" in again.stdout
    whole = [item["text"] for path in source.glob("*.json") for item in json.loads(path.read_text())["items"]]
    assert Counter(text for texts in sent_by.values() for text in texts) == Counter(whole) and len(whole) == 55
    assert {f"{language}_phrasebook_general_ok/{run:04d}.json" for run in range(1, 12)} <= set(written)
    assert runs_in(source.parent) == written


def test_what_other_machines_hold_is_never_requested_again(run_script, tmp_path):
    """Another n, or none, waits until the folders are copied together; then nothing is paid for twice."""
    one, two = tmp_path / "one", tmp_path / "two"
    with StandIn() as server:
        ran(run_script(GENERATE, generation(server, one, SHARD="1/2")))
        ran(run_script(GENERATE, generation(server, two, SHARD="2/2")))
        assert len(server.requests) == 7
        for shard in ("1/1", "1/3", "2/4"):
            refused = run_script(GENERATE, generation(server, one, SHARD=shard))
            assert refused.returncode == 2 and b"machine of SHARD=2/2" in refused.stderr, shard
        assert len(server.requests) == 7
        shutil.copytree(one, tmp_path / "halved")
        ran(run_script(GENERATE, generation(server, tmp_path / "halved", SHARD="3/4")))  # a half of 1/2's own runs
        shutil.copytree(two, one, dirs_exist_ok=True)
        for shard in ("1/3", "2/3", "3/3", "1/1"):
            ran(run_script(GENERATE, generation(server, one, SHARD=shard)))
    assert len(server.requests) == 7 and len(runs_in(one)) == 7


def test_shards_go_on_from_what_a_call_without_them_wrote(run_script, tmp_path):
    with StandIn() as server:
        ran(run_script(GENERATE, generation(server, tmp_path / "one", NUM_RUNS=3)))
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        for folder, shard in (("one", "1/2"), ("two", "2/2")):
            ran(run_script(GENERATE, generation(server, tmp_path / folder, SHARD=shard)))
        first, second = runs_in(tmp_path / "one"), runs_in(tmp_path / "two")
    assert len(server.requests) == 7 and {name for name in first if name in second} == {
        f"in_general_ok/{run:04d}.json" for run in (1, 2, 3)
    }
    assert {int(name[-9:-5]) for name in first} == {1, 2, 3, 5, 7} and {int(name[-9:-5]) for name in second} == {
        1,
        2,
        3,
        4,
        6,
    }


def test_processes_that_share_runs_refuse_each_other(repo, run_script, tmp_path):
    with StandIn(latency_s=5) as server:
        process = started(repo, GENERATE, generation(server, tmp_path, SHARD="1/2", NUM_RUNS=2))
        try:
            assert server.wait_for(1)
            marks = sorted(path.name for path in tmp_path.rglob(".shard-*"))
            for shard in ("1/2", "1/1"):
                refused = run_script(GENERATE, generation(server, tmp_path, SHARD=shard, NUM_RUNS=2))
                assert refused.returncode == 2 and b"another process" in refused.stderr, shard
            (tmp_path / "in_general_ok" / ".shard-2-of-2").touch()  # else what 2/2 holds comes first
            refused = run_script(GENERATE, generation(server, tmp_path, SHARD="3/4", NUM_RUNS=2))
            assert refused.returncode == 2 and b"another process" in refused.stderr
            assert sorted(path.name for path in tmp_path.rglob(".shard-*")) == [*marks, ".shard-2-of-2"]
            assert len(server.requests) == 1
        finally:
            process.kill()
            process.communicate()
    with StandIn() as server:  # what a killed process held is free
        ran(run_script(GENERATE, generation(server, tmp_path, SHARD="1/2", NUM_RUNS=2)))


def test_half_written_files_are_removed_by_the_shard_that_they_are_of(run_script, tmp_path):
    folder = tmp_path / "phrasebook_general_ok"
    folder.mkdir()
    partials = [folder / ".0001.json.partial", folder / ".0002.json.partial"]
    for partial in partials:
        partial.write_text("{")
    for shard, left in (("1/2", [False, True]), ("2/2", [False, False])):
        ran(run_script(GENERATE, {"PROMPT_KEY": "general_ok", "NUM_RUNS": 2, "OUTPUT_ROOT": tmp_path, "SHARD": shard}))
        assert [partial.exists() for partial in partials] == left


def test_a_shard_is_echoed_as_it_is_understood(run_script, tmp_path):
    done = ran(
        run_script(GENERATE, {"PROMPT_KEY": "general_ok", "NUM_RUNS": 1, "OUTPUT_ROOT": tmp_path, "SHARD": " 02/ 4"})
    )
    assert b" SHARD=2/4 " in done.stderr and b"wrote 0 runs" in done.stdout and not runs_in(tmp_path)
