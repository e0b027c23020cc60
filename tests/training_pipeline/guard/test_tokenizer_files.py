"""A tokenizer is handed on as it is: same bytes, another chat template, and proof that the ids are the same."""

import json

import pytest
from transformers import AutoTokenizer

from guard.attaching import attach_guard
from guard.template import read_guard_prompt
from guard.tokenizer_files import hand_over, hand_over_adapter, tokenizer_files


@pytest.fixture
def source(base_dir, tmp_path):
    """A folder as published: the template inside tokenizer_config.json, and a setting that saving would lose."""
    folder = tmp_path / "source"
    folder.mkdir()
    for path in tokenizer_files(base_dir):
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"chat_template": (base_dir / "chat_template.jinja").read_text(), "legacy": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "added_tokens.json").write_text("{}")
    return folder


@pytest.fixture
def question(source):
    tokenizer = AutoTokenizer.from_pretrained(source)
    scoring = attach_guard(tokenizer, "Is it {unsafe} or {safe}?\n{meme} </meme>\n")
    return read_guard_prompt(tokenizer, scoring), scoring


def test_files_are_copied_and_only_the_chat_template_is_written(source, question, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    for name in ("vocab.json", "chat_template.json", "tokenizer.model"):
        (folder / name).write_text("what a library left there")
    hand_over(*question, source, folder)
    names = {"tokenizer.json", "tokenizer_config.json", "added_tokens.json", "chat_template.jinja"}
    assert {path.name for path in folder.iterdir()} == names
    assert (folder / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    before, after = (json.loads((at / "tokenizer_config.json").read_text()) for at in (source, folder))
    assert after["legacy"] is True and before.pop("chat_template") and before == after
    assert AutoTokenizer.from_pretrained(folder).chat_template == question[0].tokenizer.chat_template


def test_a_folder_that_reads_otherwise_is_refused(source, question, tmp_path):
    """The source changed on the way, as a tokenizer's class does where config.json is another's."""
    state = json.loads((source / "tokenizer.json").read_text())
    state["normalizer"] = {"type": "Lowercase"}
    (source / "tokenizer.json").write_text(json.dumps(state))
    folder = tmp_path / "new"
    folder.mkdir()
    with pytest.raises(ValueError, match="other tokens of the same prompt"):
        hand_over(*question, source, folder)
    hand_over_adapter(*question, source, folder)
    assert {path.name for path in folder.iterdir()} == {"chat_template.jinja"}
