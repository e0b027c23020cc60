"""translate_data.py as a user runs it: by the phrasebook, and through the real client against the stand-in server."""

import json

import pytest

from stand_in_server import Fault, StandIn, translated

SCRIPT = "data_preparation/translate_data.py"


@pytest.fixture
def source(run_script, tmp_path):
    """A raw folder of two files, ten items, written by the stand-in's model."""
    with StandIn() as server:
        run_script(
            "data_preparation/generate_data.py",
            {
                "MODEL_ID": "stand/in",
                "API_KEY": "k",
                "PROMPT_KEY": "Singlish_ok",
                "NUM_RUNS": 2,
                "OUTPUT_ROOT": tmp_path,
                "TOGETHER_BASE_URL": server.url,
            },
        )
    return tmp_path / "in_Singlish_ok"


def settings_for(server, source, **settings):
    return {
        "MODEL_ID": "stand/translator",
        "API_KEY": "sk-secret",
        "LANGUAGE": "Tamil",
        "DIR_NAME": source,
        "TOGETHER_BASE_URL": server.url,
        "MAX_IN_FLIGHT": 1,
        **settings,
    }


def load(path):
    return json.loads(path.read_text())


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}


@pytest.mark.parametrize(("name", "code"), [("Chinese", "zh"), ("Malay", "ms"), ("Tamil", "ta")])
def test_texts_are_translated_and_all_else_is_kept(run_script, source, name, code):
    with StandIn() as server:
        done = run_script(SCRIPT, settings_for(server, source, LANGUAGE=name))
    assert done.returncode == 0, done.stderr
    folder = source.parent / f"{name}_in_Singlish_ok"
    assert names(folder) == {"0001.json", "0002.json"} and len(server.requests) == 2
    original, copy = load(source / "0002.json"), load(folder / "0002.json")
    assert (copy["label"], copy["category"], copy["language"]) == ("ok", "Singlish", code)
    assert copy["source"]["file"] == "in_Singlish_ok/0002.json" and copy["source"]["model"] == "stand/in"
    for before, after in zip(original["items"], copy["items"], strict=True):
        assert after == {**before, "text": translated(before["text"], code)}
    assert server.requests[0].texts == [item["text"] for item in load(source / "0001.json")["items"]]


def test_phrasebook_translates_its_own_memes_and_a_second_run_changes_nothing(run_script, tmp_path):
    run_script(
        "data_preparation/generate_data.py",
        {"PROMPT_KEY": "general_ok,Reddit_offensive", "NUM_RUNS": 2, "OUTPUT_ROOT": tmp_path},
    )
    settings = {"LANGUAGE": "Chinese,Malay,Tamil", "DIR_NAME": "phrasebook_general_ok,phrasebook_Reddit_offensive"}
    done = run_script(SCRIPT, settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert len(before) == 2 * 2 * 4
    assert not list(tmp_path.rglob("failed")), "the written wordings pass the checks of translations"
    for run in ("general_ok/0001.json", "Reddit_offensive/0002.json"):
        said = [[item["category"] for item in load(path)["items"]] for path in tmp_path.glob(f"*phrasebook_{run}")]
        assert len(said) == 4 and all(categories == said[0] for categories in said) and len(set(said[0])) > 1
    again = run_script(SCRIPT, settings, cwd=tmp_path)
    assert again.returncode == 0 and b"wrote 0 files" in again.stdout
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == before


def test_the_phrasebook_says_that_it_cannot_translate_other_text(run_script, source):
    refused = run_script(SCRIPT, {"LANGUAGE": "Malay", "DIR_NAME": source})
    assert refused.returncode == 2 and b"set MODEL_ID to a chat model" in refused.stderr


@pytest.mark.parametrize(
    "answers",
    [
        Fault(content='{"translations": ["one too few"]}'),
        Fault(content="no list at all"),
        Fault(finish_reason="length"),
        Fault(content="I'm sorry, but I cannot translate that."),
    ],
    ids=["wrong count", "malformed", "length", "refusal"],
)
def test_a_reply_that_does_not_fit_its_texts_has_each_text_requested_alone(run_script, source, answers):
    with StandIn(script=[answers]) as server:
        done = run_script(SCRIPT, settings_for(server, source))
    assert done.returncode == 0, done.stderr
    assert [len(request.texts) for request in server.requests] == [5, 1, 1, 1, 1, 1, 5]
    copy = load(source.parent / "Tamil_in_Singlish_ok" / "0001.json")
    assert len(copy["items"]) == 5 and copy["dropped"] == [] and len(copy["further_replies"]) == 5


def test_only_what_fails_is_requested_again_then_dropped_with_its_reason(run_script, source):
    stubborn = load(source / "0001.json")["items"][2]["text"]

    def script(request):
        answers = [text if text == stubborn else translated(text, "ta") for text in request.texts]
        return Fault(content=json.dumps({"translations": answers}))

    with StandIn(script=script) as server:
        done = run_script(SCRIPT, settings_for(server, source, MAX_ATTEMPTS=3))
    assert done.returncode == 0 and b"9 items, 1 dropped" in done.stdout
    assert [request.texts for request in server.requests[1:3]] == [[stubborn]] * 2 and len(server.requests) == 4
    folder = source.parent / "Tamil_in_Singlish_ok"
    copy, original = load(folder / "0001.json"), load(source / "0001.json")
    assert [item["group"] for item in copy["items"]] == [original["items"][i]["group"] for i in (0, 1, 3, 4)]
    assert [(entry["text"], entry["reason"]) for entry in copy["dropped"]] == [(stubborn, "untranslated")]
    assert {load(path)["reason"] for path in (folder / "failed").iterdir()} == {"untranslated"}


def test_a_stopped_run_goes_on_where_it_was(run_script, source):
    with StandIn(script=[None, Fault(status=401)]) as server:
        stopped = run_script(SCRIPT, settings_for(server, source))
    assert stopped.returncode == 1 and b"API_KEY" in stopped.stderr and b"sk-secret" not in stopped.stderr
    with StandIn() as server:
        done = run_script(SCRIPT, settings_for(server, source))
    assert done.returncode == 0 and len(server.requests) == 1 and b"1 were there" in done.stdout


def test_a_source_that_was_generated_again_is_noticed(run_script, source):
    with StandIn() as server:
        run_script(SCRIPT, settings_for(server, source))
        document = load(source / "0001.json")
        document["items"][0]["text"] = "something else"
        (source / "0001.json").write_text(json.dumps(document))
        refused = run_script(SCRIPT, settings_for(server, source))
    assert refused.returncode == 2 and b"generated again" in refused.stderr and len(server.requests) == 2


def test_another_prompt_is_refused(run_script, source, tmp_path):
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Put this into $language. The texts, as JSON: $texts")
    with StandIn() as server:
        run_script(SCRIPT, settings_for(server, source))
        refused = run_script(SCRIPT, settings_for(server, source, PROMPT_PATH=prompt))
    assert refused.returncode == 2 and b"prompt_sha256" in refused.stderr and len(server.requests) == 2


def test_a_translation_is_not_translated(run_script, source):
    with StandIn() as server:
        run_script(SCRIPT, settings_for(server, source))
        refused = run_script(SCRIPT, settings_for(server, source.parent / "Tamil_in_Singlish_ok", LANGUAGE="Malay"))
    assert refused.returncode == 2 and b"itself a translation" in refused.stderr


@pytest.mark.parametrize("value", ["en_US:en", "en_GB.UTF-8", "en", "C"])
def test_the_system_language_variable_is_told_from_ours(run_script, source, value):
    refused = run_script(SCRIPT, {"LANGUAGE": value, "DIR_NAME": source})
    assert refused.returncode == 2 and b"GNU gettext" in refused.stderr and b"Chinese, Malay, Tamil" in refused.stderr


@pytest.mark.parametrize("value", ["zh", "chinese", "French"])
def test_languages_are_spelled_in_full(run_script, source, value):
    refused = run_script(SCRIPT, {"LANGUAGE": value, "DIR_NAME": source})
    assert refused.returncode == 2 and b"Chinese, Malay, Tamil" in refused.stderr


def test_a_folder_without_raw_files_is_refused(run_script, tmp_path):
    refused = run_script(SCRIPT, {"LANGUAGE": "Malay", "DIR_NAME": tmp_path})
    assert refused.returncode == 2 and b"DIR_NAME" in refused.stderr and b"generate_data.py" in refused.stderr
