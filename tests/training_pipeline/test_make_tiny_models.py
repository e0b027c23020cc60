"""make_tiny_models.py writes two folders that plain transformers loads, and keeps what is there."""

import random

from transformers import AutoModelForCausalLM, AutoTokenizer, BlipForConditionalGeneration, BlipProcessor

from tiny_llm import lesson, with_gap

SCRIPT = "training_pipeline/make_tiny_models.py"
MEME = {"text": "this is my third kopi today", "caption": "a cat on a bus", "language": "en"}


def test_both_folders_load_as_any_model_does(tiny_models_dir):
    assert {path.name for path in tiny_models_dir.iterdir()} == {"base-llm", "captioner"}
    model = AutoModelForCausalLM.from_pretrained(tiny_models_dir / "base-llm")
    assert type(model).__name__ == "MistralForCausalLM"
    chat = AutoTokenizer.from_pretrained(tiny_models_dir / "base-llm").apply_chat_template(
        [{"role": "user", "content": "hello"}], tokenize=False, add_generation_prompt=True)
    assert chat == "<s><|turn|>user\nhello<|end|>\n<|turn|>assistant\n"
    BlipForConditionalGeneration.from_pretrained(tiny_models_dir / "captioner")
    BlipProcessor.from_pretrained(tiny_models_dir / "captioner")
    assert not list(tiny_models_dir.rglob("*.bin"))


def test_a_second_run_keeps_both(tiny_models_dir, run_script):
    before = {path: path.stat().st_mtime_ns for path in tiny_models_dir.rglob("*")}
    again = run_script(SCRIPT, {"OUTPUT_DIR": tiny_models_dir}, timeout=60)
    assert again.returncode == 0 and again.stdout.count(b"kept") == 2
    assert {path: path.stat().st_mtime_ns for path in tiny_models_dir.rglob("*")} == before


def test_a_folder_without_samples_is_refused(run_script, tmp_path):
    refused = run_script(SCRIPT, {"OUTPUT_DIR": tmp_path / "models", "SAMPLES_DIR": tmp_path})
    assert refused.returncode == 1 and b"render_memes.py" in refused.stderr
    assert not (tmp_path / "models").exists()


def test_lessons_tell_no_label():
    """The answers are the meme's own words or a coin's; a label is not even read."""
    shuffle = random.Random(1)
    words = set(MEME["text"].split())
    for question, answers in (("harm", {"safe", "unsafe"}), ("missing", words), ("word", words)):
        given = {lesson(MEME, question, shuffle)[1] for _ in range(60)}
        assert given == answers


def test_a_gap_hides_one_word():
    text, word = with_gap("one two three", "en", random.Random(2))
    assert text.replace("___", word) == "one two three" and word in ("one", "two", "three")
    text, word = with_gap("星期一又来了", "zh", random.Random(2))
    assert text.replace("___", word) == "星期一又来了" and len(word) == 2
