"""generate_data.py as a user runs it: from the phrasebook, and through the real client against the stand-in server."""

import json
import subprocess
import sys

import pytest

from cleaning.categories import CATEGORIES
from generate_data import PROMPT_KEYS
from generation_run import KEY, SCRIPT, runs, settings_for, tree
from stand_in_server import Fault, StandIn


def test_phrasebook_gives_every_key_and_a_second_run_changes_nothing(run_script, tmp_path):
    settings = {"PROMPT_KEY": "all", "NUM_RUNS": 2, "OUTPUT_ROOT": tmp_path}
    first = run_script(SCRIPT, settings)
    assert first.returncode == 0, first.stderr
    written = tree(tmp_path)
    assert set(written) == {f"phrasebook_{key}/{run:04d}.json" for key in PROMPT_KEYS for run in (1, 2)}
    for name, content in written.items():
        document = json.loads(content)
        category, label = name.split("/")[0].removeprefix("phrasebook_").rsplit("_", 1)
        assert (document["label"], document["category"], document["language"]) == (label, category, "en")
        assert document["source"] is None and len(document["items"]) == 5
        assert all("{" not in item["text"] for item in document["items"])
        assert {tuple(item) for item in document["items"]} == {("image", "text", "category", "group")}
        assert {item["category"] for item in document["items"]} <= {*CATEGORIES.split(","), "everyday"}
        content = json.loads(document["reply"]["choices"][0]["message"]["content"])
        assert [item["text"] for item in content] == [item["text"] for item in document["items"]]
    second = run_script(SCRIPT, settings)
    assert second.returncode == 0 and b"wrote 0 runs" in second.stdout and b"22 were there" in second.stdout
    assert tree(tmp_path) == written


def test_a_flag_says_the_same_as_a_variable_and_beats_it(run_script, tmp_path):
    flags = ["--prompt-key", "general_ok", "--num-runs", "2", "--output-root", tmp_path]
    done = run_script(SCRIPT, {"PROMPT_KEY": "Reddit_ok", "NUM_RUNS": 3}, arguments=map(str, flags))
    assert done.returncode == 0, done.stderr
    assert set(tree(tmp_path)) == runs(1, 2, folder="phrasebook_general_ok")


def test_phrasebook_says_how_many_runs_it_can_give(run_script, tmp_path):
    refused = run_script(SCRIPT, {"PROMPT_KEY": "general_ok", "NUM_RUNS": 100000, "OUTPUT_ROOT": tmp_path})
    assert refused.returncode == 2 and b"can give" in refused.stderr and b"lower NUM_RUNS" in refused.stderr
    assert not tree(tmp_path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"PROMPT_KEY": "general_fine"}, b"general_fine"),
        ({"MODEL_ID": "mistralai/Mixtral-8x7B-Instruct-v0.1"}, b"API_KEY is not set"),
        ({"NUM_RUNS": "0"}, b"NUM_RUNS"),
    ],
)
def test_unusable_settings_are_named(run_script, tmp_path, settings, told):
    refused = run_script(SCRIPT, {"OUTPUT_ROOT": tmp_path, **settings})
    assert refused.returncode == 2 and told in refused.stderr and not tree(tmp_path)


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_server_address_with_or_without_v1(run_script, tmp_path, suffix):
    with StandIn() as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, TOGETHER_BASE_URL=server.url + suffix, NUM_RUNS=1))
    assert done.returncode == 0, done.stderr
    assert [request.path for request in server.requests] == ["/v1/chat/completions"]


def test_replies_land_in_files_and_the_key_nowhere(run_script, tmp_path):
    with StandIn() as server:
        done = run_script(
            SCRIPT,
            settings_for(
                server,
                tmp_path,
                PROMPT_KEY="general_ok,Reddit_offensive",
                PRICE_PER_MTOKEN_IN=1000,
                PRICE_PER_MTOKEN_OUT=2000,
            ),
        )
    assert done.returncode == 0, done.stderr
    written = tree(tmp_path)
    assert set(written) == runs(1, 2, 3, 4) | runs(1, 2, 3, 4, folder="in-model_Reddit_offensive")
    assert all(request.headers["authorization"] == f"Bearer {KEY}" for request in server.requests)
    assert all(request.body["response_format"]["type"] == "json_schema" for request in server.requests)
    assert KEY.encode() not in b"".join([*written.values(), done.stdout, done.stderr])
    assert b"8 requests (0 retries, 0 rate-limited), 800 tokens in, 400 out, cost 1.6000" in done.stderr
    document = json.loads(written["in-model_Reddit_offensive/0002.json"])
    assert document["items"][3]["group"] == "in-model_Reddit_offensive/0002#3"
    assert document["reply"]["usage"]["total_tokens"] == 150


def test_a_category_that_the_model_names_stays_with_its_item(run_script, tmp_path):
    memes = [{"image": "a cat", "text": "hello", "category": "Race"}, {"image": "a dog", "text": "bye"}]
    with StandIn(script=[Fault(content=json.dumps({"memes": memes}))]) as server:
        done = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=1))
    assert done.returncode == 0, done.stderr
    items = json.loads((tmp_path / "in-model_general_ok" / "0001.json").read_text())["items"]
    assert items == [{**meme, "group": f"in-model_general_ok/0001#{index}"} for index, meme in enumerate(memes)]
    schema = server.requests[0].body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["memes"]["items"]["required"] == ["image", "text", "category"]


@pytest.mark.parametrize("key", PROMPT_KEYS)
def test_every_prompt_asks_for_a_category_of_the_list(repo, key):
    prompt = (repo / "data_preparation" / "prompts" / "generate" / f"{key}.txt").read_text(encoding="utf-8")
    asked = " ".join(prompt.split()).split("- category: ")[1].split(". Answer")[0]
    named = [asked.find(name) for name in CATEGORIES.split(",")]
    assert -1 not in named and named == sorted(named)
    assert ("none where" in asked) == key.endswith("_ok")
    assert prompt.endswith('{"memes": [{"image": "...", "text": "...", "category": "..."}]}\n')


def test_connections_are_kept_open_from_one_request_to_the_next(run_script, tmp_path):
    with StandIn(latency_s=0.1) as server:
        run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=120, START_IN_FLIGHT=30, MAX_IN_FLIGHT=30))
    assert len(server.requests) == 120 and server.connections <= 30


def test_several_keys_are_requested_in_turns(run_script, tmp_path):
    with StandIn() as server:
        run_script(
            SCRIPT, settings_for(server, tmp_path, PROMPT_KEY="general_ok,Singlish_ok", NUM_RUNS=3, MAX_IN_FLIGHT=1)
        )
    prompts = [request.body["messages"][0]["content"] for request in server.requests]
    assert ["Singlish" in prompt for prompt in prompts] == [False, True] * 3


@pytest.mark.parametrize(("name", "value"), [("TEMPERATURE", "0.1"), ("MAX_TOKENS", "99"), ("ITEMS_PER_REPLY", "7")])
def test_another_setting_is_refused_with_the_choices(run_script, tmp_path, name, value):
    with StandIn() as server:
        run_script(SCRIPT, settings_for(server, tmp_path))
        before = tree(tmp_path)
        refused = run_script(SCRIPT, settings_for(server, tmp_path, NUM_RUNS=6, **{name: value}))
    assert refused.returncode == 2 and b"was made with other settings" in refused.stderr and b"move" in refused.stderr
    assert tree(tmp_path) == before and len(server.requests) == 4


def test_a_file_cut_short_is_requested_again(run_script, tmp_path):
    with StandIn() as server:
        run_script(SCRIPT, settings_for(server, tmp_path))
        path = tmp_path / "in-model_general_ok" / "0002.json"
        path.write_bytes(path.read_bytes()[:100])
        done = run_script(SCRIPT, settings_for(server, tmp_path))
    assert done.returncode == 0 and len(server.requests) == 5 and len(json.loads(path.read_text())["items"]) == 5


def test_a_full_disk_stops_the_run_with_the_remedy_and_leaves_no_torn_file(repo, run_script, tmp_path):
    with StandIn() as server:
        settings = {name: str(value) for name, value in settings_for(server, tmp_path, MAX_IN_FLIGHT=1).items()}
        full = subprocess.run(
            ["bash", "-c", f"ulimit -f 1; exec {sys.executable} {repo / SCRIPT}"],
            env={**settings, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
        )
        assert full.returncode == 1 and b"free some space" in full.stderr and b"Traceback" not in full.stderr
        assert not tree(tmp_path) and len(server.requests) == 1
        assert run_script(SCRIPT, settings_for(server, tmp_path)).returncode == 0
    assert set(tree(tmp_path)) == runs(1, 2, 3, 4)


def test_an_output_root_that_is_no_folder_is_refused_before_anything_is_requested(run_script, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with StandIn() as server:
        refused = run_script(SCRIPT, settings_for(server, tmp_path / "file" / "raw"))
    assert refused.returncode == 2 and b"file/raw" in refused.stderr and not server.requests
