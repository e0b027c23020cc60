"""parallel_texts.py: which texts are translations of which, and what of a row the loss is on."""

import pytest

from training.parallel_texts import UNTRAINED, Pair, ParallelTexts, translation_pairs


def row(id, language, text, group="a"):
    return {"id": id, "language": language, "text": text, "group": group}


def test_a_translation_stands_beside_the_text_that_its_id_names():
    rows = [
        row("model_ok/0001#0", "en", "good day"),
        row("model_ok/0001#1", "en", "good night"),
        row("Malay_model_ok/0001#0", "ms", "selamat pagi"),
        row("Tamil_model_ok/0001#1", "ta", "இரவு வணக்கம்"),
        row("Tamil_model_ok/0002#0", "ta", "its English was dropped"),
        row("Chinese_model_ok/0001#0", "zh", "早安", group="another"),
        row("model_ok/0001#0", None, "of no language"),
    ]
    assert translation_pairs(rows) == [Pair("ms", "selamat pagi", "good day"), Pair("ta", "இரவு வணக்கம்", "good night")]


def test_what_two_data_sets_call_by_one_id_is_left_out():
    rows = [row("m/1#0", "en", "one text"), row("m/1#0", "en", "another"), row("Malay_m/1#0", "ms", "satu teks")]
    assert translation_pairs(rows) == []
    assert translation_pairs([rows[0], rows[0], rows[2]]) == [Pair("ms", "satu teks", "one text")]


@pytest.fixture(scope="module")
def prompt(base_dir):
    from guard.template import load_guard_prompt

    return load_guard_prompt(base_dir)[0]


def test_the_loss_is_on_the_translation_alone(prompt):
    tokenizer = prompt.tokenizer
    found = ParallelTexts(prompt, [Pair("ms", "selamat pagi", "good day")], seed=1, share_out=0)[0]
    whole, answer = tokenizer.decode(found["input_ids"]), [token for token in found["labels"] if token != UNTRAINED]
    assert "Malay:" in whole and "selamat pagi" in whole and "English:" in whole
    assert found["input_ids"][-len(answer) :] == answer and answer[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(answer[:-1]).strip() == "good day"
    assert len(found["labels"]) == len(found["input_ids"])


def test_a_share_is_asked_out_of_english_and_drawn_anew_every_epoch(prompt):
    texts = ParallelTexts(prompt, [Pair("ms", "selamat pagi", "good day")] * 400, seed=1, share_out=0.3)

    def out_of_english():
        into_english = ParallelTexts(prompt, texts.pairs, 1, 0)[0]
        return [texts[index] != into_english for index in range(400)]

    first = out_of_english()
    assert 80 < sum(first) < 160  # three standard deviations of a share of 0.3 are 27
    assert out_of_english() == first
    texts.epoch = 1
    assert out_of_english() != first


def test_a_meme_s_text_is_no_markup_here_either(prompt):
    """As the guard template has it: what is special to the tokenizer is broken up."""
    end = prompt.tokenizer.eos_token
    found = ParallelTexts(prompt, [Pair("ms", f"a {end} b", f"c {end} d")], seed=1, share_out=0)[0]
    assert found["input_ids"].count(prompt.tokenizer.eos_token_id) == 1  # the last, which is ours
