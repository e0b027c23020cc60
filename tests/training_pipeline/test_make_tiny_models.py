"""make_tiny_models.py writes two folders that plain transformers loads, and keeps what is there."""

import random

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, BlipForConditionalGeneration, BlipProcessor

from tiny.llm import LABEL_WORDS_SHARE, answer_distribution, as_a_view

SCRIPT = "training_pipeline/make_tiny_models.py"
MEME = {"text": "this is my third kopi today", "caption": "a cat on a bus", "language": "en"}


def test_both_folders_load_as_any_model_does(tiny_models_dir):
    assert {path.name for path in tiny_models_dir.iterdir()} == {"base-llm", "captioner"}
    model = AutoModelForCausalLM.from_pretrained(tiny_models_dir / "base-llm")
    assert type(model).__name__ == "MistralForCausalLM"
    chat = AutoTokenizer.from_pretrained(tiny_models_dir / "base-llm").apply_chat_template(
        [{"role": "user", "content": "hello"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<s><|turn|>user\nhello<|end|>\n<|turn|>assistant\n"
    BlipForConditionalGeneration.from_pretrained(tiny_models_dir / "captioner")
    BlipProcessor.from_pretrained(tiny_models_dir / "captioner")
    assert not list(tiny_models_dir.rglob("*.bin"))


def test_a_second_run_keeps_both(tiny_models_dir, run_script):
    before = {path: path.stat().st_mtime_ns for path in tiny_models_dir.rglob("*")}
    again = run_script(SCRIPT, {"OUTPUT_DIR": tiny_models_dir}, timeout=120)
    assert again.returncode == 0 and again.stdout.count(b"kept") == 2
    assert {path: path.stat().st_mtime_ns for path in tiny_models_dir.rglob("*")} == before


def test_a_folder_without_samples_is_refused(run_script, tmp_path):
    refused = run_script(SCRIPT, {"OUTPUT_DIR": tmp_path / "models", "SAMPLES_DIR": tmp_path})
    assert refused.returncode == 1 and b"render_memes.py" in refused.stderr
    assert not (tmp_path / "models").exists()


def test_the_lessons_tell_no_label():
    """The answer is the meme's own tokens and both label words alike; a meme's label is not even read."""
    answer = answer_distribution([5, 7, 7], label_ids=[1, 2], vocabulary_size=10)
    assert answer.sum() == pytest.approx(1) and answer[1] == answer[2] == pytest.approx(LABEL_WORDS_SHARE / 2)
    assert answer[5] == answer[7] == pytest.approx((1 - LABEL_WORDS_SHARE) / 2)
    assert not answer[[0, 3, 4, 6, 8, 9]].any()
    views = {as_a_view(MEME, random.Random(seed)) for seed in range(20)}
    assert views == {MEME["text"], f"Image: {MEME['caption']}, Caption: {MEME['text']}"}


def test_vowel_signs_do_not_cut_tamil_words(tiny_models_dir):
    tokenizer = AutoTokenizer.from_pretrained(tiny_models_dir / "base-llm")
    assert len(tokenizer("இன்று", add_special_tokens=False)["input_ids"]) <= 2
    assert tokenizer.decode(tokenizer("இன்று நல்ல நாள்!")["input_ids"]) == "இன்று நல்ல நாள்!"
