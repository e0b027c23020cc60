"""attach_policy.py makes a guard model of a plain chat model, without touching the chat model."""

import json
import re
import shutil

import pytest

SCRIPT = "training_pipeline/attach_policy.py"


def test_any_chat_model_becomes_a_guard_model(base_dir, run_script, tmp_path):
    template_before = (base_dir / "chat_template.jinja").read_text()
    done = run_script(SCRIPT, {"MODEL_DIR": base_dir, "OUTPUT_DIR": tmp_path / "guard"})
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    guard = tmp_path / "guard"
    assert {path.name for path in guard.iterdir()} >= {
        "config.json",
        "model.safetensors",
        "scoring.json",
        "tokenizer.json",
        "chat_template.jinja",
    }
    assert json.loads((guard / "scoring.json").read_text())["label_words"] == {"offensive": "unsafe", "ok": "safe"}
    assert "You moderate memes" in (guard / "chat_template.jinja").read_text()
    assert (base_dir / "chat_template.jinja").read_text() == template_before
    assert (guard / "tokenizer.json").read_bytes() == (base_dir / "tokenizer.json").read_bytes()
    asked, share = done.stdout.decode().splitlines()
    assert re.search(r"token 'unsafe' \(\d+\) against 'safe' \(\d+\), behind .* '\\n', then one of race, rel", asked), (
        asked
    )
    assert re.search(r"both labels together have \d+\.\d% of the probability", share), share


def test_categories_are_the_policys_or_none(base_dir, run_script, tmp_path):
    """Named by CATEGORIES, in the question where the policy has a place for them, else not asked at all."""
    attach = {"MODEL_DIR": base_dir, "OUTPUT_DIR": tmp_path / "guard", "CATEGORIES": "race, age"}
    done = run_script(SCRIPT, attach)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    scoring = json.loads((tmp_path / "guard" / "scoring.json").read_text())
    assert scoring["categories"] == {"race": " race", "age": " age"}
    assert "attacked for: race or age." in (tmp_path / "guard" / "chat_template.jinja").read_text()
    again = run_script(SCRIPT, {**attach, "CATEGORIES": "race,class"})
    assert again.returncode == 1 and b"is there already" in again.stderr, "other categories are another guard model"
    alike = run_script(SCRIPT, {**attach, "CATEGORIES": "race,race"})
    assert alike.returncode == 1 and b"race, race cannot be told apart by one token each" in alike.stderr
    (tmp_path / "policy.txt").write_text("Is this {unsafe} or {safe}?\n{meme} </meme>")
    plain = run_script(SCRIPT, {**attach, "OUTPUT_DIR": tmp_path / "plain", "POLICY_FILE": tmp_path / "policy.txt"})
    assert plain.returncode == 0, plain.stderr.decode()[-2000:]
    assert "categories" not in json.loads((tmp_path / "plain" / "scoring.json").read_text())


def test_a_guard_model_is_not_attached_twice(base_dir, run_script, tmp_path):
    run_script(SCRIPT, {"MODEL_DIR": base_dir, "OUTPUT_DIR": tmp_path / "guard"})
    refused = run_script(SCRIPT, {"MODEL_DIR": tmp_path / "guard", "OUTPUT_DIR": tmp_path / "again"})
    assert refused.returncode == 1 and b"has a policy" in refused.stderr
    assert not (tmp_path / "again").exists()


def test_what_predict_cannot_serve_is_refused_before_anything_is_written(base_dir, run_script, tmp_path):
    """StableLM hands its attention no further arguments; predict.py ended in a traceback."""
    from transformers import StableLmConfig, StableLmForCausalLM

    folder = tmp_path / "chat-model"
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    StableLmForCausalLM(StableLmConfig(**sizes, num_attention_heads=2, num_key_value_heads=2)).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(base_dir / name, folder / name)
    refused = run_script(SCRIPT, {"MODEL_DIR": folder, "OUTPUT_DIR": tmp_path / "guard"})
    assert refused.returncode == 1 and b"cannot be served by predict.py: its attention takes no" in refused.stderr
    assert not (tmp_path / "guard").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "as a Git LFS pointer"),
        (
            lambda weights: weights.rename(weights.with_name("pytorch_model.bin")),
            "python training_pipeline/convert_weights.py",
        ),
        (
            lambda weights: weights.with_name("tokenizer.json").rename(weights.with_name("tekken.json")),
            "holds tekken.json",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(base_dir, run_script, tmp_path, change, named):
    folder = shutil.copytree(base_dir, tmp_path / "chat-model")
    change(folder / "model.safetensors")
    refused = run_script(SCRIPT, {"MODEL_DIR": folder, "OUTPUT_DIR": tmp_path / "guard"})
    assert refused.returncode == 1 and named.encode() in refused.stderr and b"Traceback" not in refused.stderr
    assert not (tmp_path / "guard").exists()


def test_label_words_must_be_two_that_begin_differently(base_dir, run_script, tmp_path):
    settings = {"MODEL_DIR": base_dir, "OUTPUT_DIR": tmp_path / "guard"}
    refused = run_script(SCRIPT, {**settings, "LABEL_WORDS": "unsafe"}, timeout=120)
    assert refused.returncode == 2 and b"LABEL_WORDS=unsafe" in refused.stderr
    refused = run_script(SCRIPT, {**settings, "LABEL_WORDS": "safetyish,safe"})
    assert refused.returncode == 1 and b"cannot be told apart" in refused.stderr
    assert not (tmp_path / "guard").exists()


def test_the_token_limit_of_a_view_is_part_of_the_guard_model(base_dir, run_script, tmp_path):
    settings = {"MODEL_DIR": base_dir, "OUTPUT_DIR": tmp_path / "guard"}
    run_script(SCRIPT, {**settings, "MAX_TEXT_TOKENS": "64"})
    assert json.loads((tmp_path / "guard" / "scoring.json").read_text())["max_text_tokens"] == 64
    refused = run_script(SCRIPT, settings)
    assert refused.returncode == 1 and b"choose another OUTPUT_DIR" in refused.stderr


def test_a_second_run_keeps_what_was_fitted_and_another_policy_is_refused(base_dir, run_script, tmp_path):
    settings = {"MODEL_DIR": base_dir, "OUTPUT_DIR": tmp_path / "guard"}
    run_script(SCRIPT, settings)
    scoring = tmp_path / "guard" / "scoring.json"
    scoring.write_text(json.dumps({**json.loads(scoring.read_text()), "threshold": 0.42}))
    again = run_script(SCRIPT, settings)
    assert again.returncode == 0 and b"kept" in again.stdout and json.loads(scoring.read_text())["threshold"] == 0.42
    policy = tmp_path / "policy.txt"
    policy.write_text("Is this {unsafe} or {safe}?\n{meme} </meme>")
    refused = run_script(SCRIPT, {**settings, "POLICY_FILE": policy})
    assert refused.returncode == 1 and b"choose another OUTPUT_DIR" in refused.stderr
    assert json.loads(scoring.read_text())["threshold"] == 0.42


def test_a_base_model_gets_a_chat_template_by_name_or_file(base_dir, run_script, tmp_path):
    plain = tmp_path / "base"
    shutil.copytree(base_dir, plain)
    (plain / "chat_template.jinja").unlink()
    settings = {"MODEL_DIR": plain, "OUTPUT_DIR": tmp_path / "guard"}
    refused = run_script(SCRIPT, settings)
    assert refused.returncode == 1 and b"no chat template" in refused.stderr and b"CHAT_TEMPLATE" in refused.stderr
    refused = run_script(SCRIPT, {**settings, "CHAT_TEMPLATE": "chatty"}, timeout=120)
    assert (
        refused.returncode == 2 and b"CHAT_TEMPLATE=chatty: neither a file nor one of plain, alpaca" in refused.stderr
    )
    (tmp_path / "own.jinja").write_text("{{ '<|turn|>Q\\n' + messages[0]['content'] + '<|end|>\\n<|turn|>A\\n' }}")
    done = run_script(SCRIPT, {**settings, "CHAT_TEMPLATE": tmp_path / "own.jinja"})
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert "<|turn|>A" in (tmp_path / "guard" / "chat_template.jinja").read_text()
