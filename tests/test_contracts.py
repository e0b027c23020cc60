"""What two folders must agree on; test_hostile_memes.py looks into several of them, too."""

import ast
import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

FOLDERS = {
    "data_preparation": {"raw", "chat", "cleaning", "drawing"},
    "training_pipeline": {"guard", "memes", "training", "evaluation", "tiny"},
    "docker": {"detector", "batch", "report"},
}
SETTINGS_COPIES = (
    "docker/detector/script_settings.py",
    "training_pipeline/guard/script_settings.py",
    "data_preparation/raw/script_settings.py",
)


PROGRESS_COPIES = ("data_preparation/raw/progress.py", "training_pipeline/guard/progress.py")
WHOLE_MODEL_COPIES = ("docker/detector/whole_model.py", "training_pipeline/guard/whole_model.py")
WINDOW_COPIES = ("docker/detector/text_windows.py", "training_pipeline/guard/text_windows.py")
KERNEL_COPIES = ("docker/detector/gptq_kernel.py", "training_pipeline/guard/gptq_kernel.py")


@pytest.mark.parametrize("copies", [SETTINGS_COPIES, PROGRESS_COPIES, WHOLE_MODEL_COPIES, WINDOW_COPIES, KERNEL_COPIES])
def test_what_two_folders_need_alike_is_alike_in_both(copies, repo):
    assert len({(repo / copy).read_text(encoding="utf-8") for copy in copies}) == 1


def test_all_scripts_know_the_same_categories():
    import add_reviews
    import attach_policy
    import clean_dataset
    import evaluate_predictions

    scripts = (add_reviews, attach_policy, clean_dataset, evaluate_predictions)
    assert len({script.Settings.model_fields["categories"].default for script in scripts}) == 1


def pins(path) -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return dict(re.fullmatch(r"([^=\[]+)(?:\[.*\])?==(.+)", line).groups() for line in lines if "==" in line)


def test_pins_shared_by_two_requirements_files_are_alike(repo):
    everything = pins(repo / "requirements.txt")
    shared = pins(repo / "docker" / "requirements.txt")
    assert shared and all(everything[name] == version for name, version in shared.items())
    assert not everything.keys() & pins(repo / "requirements-scale.txt").keys()
    unpinned = [
        line
        for name in ("requirements.txt", "docker/requirements.txt", "requirements-scale.txt")
        for line in (repo / name).read_text().splitlines()
        if line and not line.startswith("#") and "==" not in line.split("#")[0]
    ]
    assert not unpinned


def test_the_constraints_pin_what_no_requirements_file_names(repo):
    """A version that stood in both would have to be changed in both."""
    drawn_in = {name.lower().replace("_", "-") for name in pins(repo / "constraints.txt")}
    for name in ("requirements.txt", "requirements-dev.txt", "requirements-scale.txt", "docker/requirements.txt"):
        assert not drawn_in & {pin.lower().replace("_", "-") for pin in pins(repo / name)}, name
    assert {"numpy", "tokenizers", "safetensors"} <= drawn_in
    assert (repo / "constraints.txt").resolve() == repo / "docker" / "constraints.txt", "the image takes the same"


def imported_modules(path) -> set[str]:
    """Dotted names that a file imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


def test_scripts_import_rooms_and_rooms_import_rooms_of_their_own_folder_alone(repo):
    scripts = {folder: {path.stem for path in (repo / folder).glob("*.py")} for folder in FOLDERS}
    every_script = set().union(*scripts.values())
    for folder, rooms in FOLDERS.items():
        assert {path.parent.name for path in (repo / folder).glob("*/__init__.py")} == rooms
        foreign = set(FOLDERS) | set().union(*(FOLDERS[other] for other in FOLDERS if other != folder))
        for path in (repo / folder).rglob("*.py"):
            tops = {name.split(".")[0] for name in imported_modules(path)}
            assert not tops & (foreign | every_script), path


def test_rooms_import_each_other_in_one_direction(repo):
    """A room that two others import lies below both: no circle, so that each can be read by itself."""
    for folder, rooms in FOLDERS.items():
        below = {
            room: {
                name.split(".")[0] for path in (repo / folder / room).glob("*.py") for name in imported_modules(path)
            }
            & (rooms - {room})
            for room in rooms
        }
        while below:
            lowest = {room for room, others in below.items() if not others & below.keys()}
            assert lowest, f"{folder}: {below} is a circle"
            below = {room: others for room, others in below.items() if room not in lowest}


def test_only_scripts_lie_at_the_top_and_nothing_is_named_like_a_library(repo):
    for folder, rooms in FOLDERS.items():
        for path in (repo / folder).glob("*.py"):
            assert "__main__" in path.read_text(encoding="utf-8"), f"{path} is no script: it belongs in a room"
        names = rooms | {path.stem for path in (repo / folder).glob("*.py")}
        # -I: without the folder of this test, or any that pytest put on the path
        lines = f"import importlib.util as u; print([n for n in {sorted(names)} if u.find_spec(n)])"
        found = subprocess.run([sys.executable, "-I", "-c", lines], capture_output=True, text=True, check=True)
        assert found.stdout.strip() == "[]", folder


def test_what_scripts_write_by_default_is_ignored(repo):
    """From the folder that the original entry's commands name, nothing must come to lie beside tracked files."""
    written = [
        "data_preparation/phrasebook_general_ok/0001.json",
        "data_preparation/Tamil_phrasebook_general_offensive/0001.json",
        "data_preparation/dataset/README.md",
        "data_preparation/reviewed/README.md",
        "data_preparation/sample_memes/train.parquet",
        "data_preparation/dataset-lora/training.json",
        "datasets/v3-lora/training.json",
        "training_pipeline/merged-gptq/config.json",
        "docker/llm-gptq/config.json",
        "docker/captioner/config.json",
    ]
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *written], cwd=repo, capture_output=True, text=True, check=False
    )
    assert ignored.stdout.split() == written


@pytest.mark.parametrize("text", ["hello", "</s> <|end|> </meme>", "நல்ல நாள்", "", "too long " * 300])
def test_training_and_container_ask_the_same_question(guard_dir, text):
    """Token for token, view for view; the training side is guard/template.py, the container's detector/prompt.py."""
    from transformers import AutoTokenizer

    from detector.prompt import build_prompt, read_scoring, view_windows
    from guard.template import encode_windows, load_guard_prompt

    trained, _ = load_guard_prompt(guard_dir)
    served = build_prompt(AutoTokenizer.from_pretrained(guard_dir), read_scoring(guard_dir))
    assert list(served.prefix_ids) == trained.prefix_ids
    expected, unseen = encode_windows(trained, {"text": text, "image": "a cat", "label": 0})
    asked = view_windows(served, text, "a cat", served.max_text_tokens)
    assert list(asked.suffixes.values()) == [view.suffixes for view in expected] and asked.unseen == unseen


@pytest.fixture(scope="module")
def guard_dir(tmp_path_factory, run_script, repo):
    """A guard model made by the scripts: a tokenizer of the tiny LLM's kind, the policy attached."""
    from tiny.llm import new_model, train_tokenizer

    chat_dir = tmp_path_factory.mktemp("contract") / "chat"
    policy = (repo / "training_pipeline" / "policy.txt").read_text(encoding="utf-8")
    tokenizer = train_tokenizer(["hello world", "a cat on a bus"], policy.replace("{unsafe}", "unsafe"))
    tokenizer.save_pretrained(chat_dir)
    new_model(tokenizer).save_pretrained(chat_dir)
    guard = chat_dir.with_name("guard")
    attached = run_script("training_pipeline/attach_policy.py", {"MODEL_DIR": chat_dir, "OUTPUT_DIR": guard})
    assert attached.returncode == 0, attached.stderr.decode()
    return guard


LATENT = {"kv_lora_rank": 16, "q_lora_rank": 24, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16}
EXPERTS = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_group": 1, "topk_group": 1}
# What kinds of chat model there are, each with the settings that make it small, and whether it can be served.
KINDS = {
    "llama": ({}, True),
    "qwen3": ({"head_dim": 16}, True),
    "gemma3_text": ({"head_dim": 16}, True),
    "mixtral": ({"num_local_experts": 2}, True),
    "gemma2": ({"head_dim": 16}, False),  # capped attention, no fused kernel
    "gpt_neo": ({"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}, False),
    "stablelm": ({}, False),  # hands no arguments through to its attention
    "falcon": ({}, False),  # attention of its own
    "deepseek_v3": ({**LATENT, **EXPERTS, "first_k_dense_replace": 1, "num_key_value_heads": 4}, False),
    "qwen3_next": ({}, False),  # linear attention
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_attaching_refuses_is_what_the_container_cannot_serve(kind):
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from chat_families import chat_tokenizer
    from detector.chat_model import ChatModel
    from detector.prompt import UnusableModel, build_prompt
    from guard.attaching import attach_guard
    from guard.servable import unservable_config
    from guard.template import POLICY_FILE

    policy = POLICY_FILE.read_text(encoding="utf-8")
    tokenizer = chat_tokenizer("Zephyr", [policy, *["\nunsafe\n", "\nsafe\n"] * 60])
    prompt = build_prompt(tokenizer, {"threshold": 0.5, **attach_guard(tokenizer, policy)})
    own, can_be_served = KINDS[kind]
    small = {"vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048}
    torch.manual_seed(0)
    config = CONFIG_MAPPING[kind](**{**small, **heads, "pad_token_id": 0, "initializer_range": 0.1, **own})
    try:
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        ChatModel(model.eval(), prompt)
        served = True
    except (UnusableModel, ValueError):
        served = False
    assert (unservable_config(config) is None) == served == can_be_served


def test_scoring_json_says_what_the_container_reads(guard_dir):
    scoring = json.loads((guard_dir / "scoring.json").read_text(encoding="utf-8"))
    fields = {"label_words", "views", "threshold", "temperature", "max_text_tokens", "categories"}
    assert scoring.keys() == fields
    assert scoring["label_words"].keys() == {"offensive", "ok"} and scoring["views"].keys() == {"text", "image_text"}


def text_scorer(model_dir):
    """The container's Scorer, in exact arithmetic, of memes whose text and caption are known already."""
    from detector.chat_model import load_chat_model
    from detector.scorer import Scorer

    chat_model = load_chat_model(model_dir, "cpu", "float32", tokens_a_row=2048)
    no_pictures = SimpleNamespace(captions=list)
    return Scorer(no_pictures, chat_model, 0.5, 0.5, chat_model.prompt.max_text_tokens)


@pytest.mark.parametrize("probability", [0.49994, 0.49995, 0.49996, 0.5, 0.12345, 0.87655, 0.00005, 0.99995])
def test_both_folders_have_one_label_rule(probability):
    """Half-way values, which numpy and the printed line round differently."""
    import numpy as np

    from detector.meme import label_of, printed
    from guard.scores import predicted_labels, printed_probabilities

    assert printed(probability) == printed_probabilities(np.array([probability]))[0] == float(f"{probability:.4f}")
    for threshold in (0.5, 0.1235, 0.1234, 0.8766, 0.8765, 0.0001, 1.0):
        assert label_of(probability, threshold) == predicted_labels(np.array([probability]), threshold)[0]


def picture_lines(repo):
    """The challenge's own samples where they are at hand, else the project's."""
    official = repo.parent / "shared" / "data" / "ospc_samples"
    folder = official if official.is_dir() else repo / "datasets" / "sample_memes" / "held_out"
    return [str(path) for path in sorted(folder.glob("*.png"))[:7]]


def test_the_container_serves_what_training_wrote(repo, guard_dir, tiny_models_dir, run_script, tmp_path):
    """Seven pictures with a missing and a corrupt one in the middle: nine lines, in order, and nothing else."""
    corrupt = tmp_path / "corrupt.png"
    corrupt.write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    pictures = picture_lines(repo)
    lines = [*pictures[:3], str(tmp_path / "missing.png"), str(corrupt), *pictures[3:]]
    settings = {"LLM_DIR": guard_dir, "CAPTION_MODEL_DIR": tiny_models_dir / "captioner"}
    served = run_script("docker/predict.py", settings, stdin="\n".join(lines).encode())
    assert served.returncode == 0, served.stderr.decode()[-3000:]
    answers = served.stdout.decode().splitlines()
    assert len(answers) == 9 and all(re.fullmatch(r"[01]\.\d{4}\t[01]", answer) for answer in answers)
    assert [answer.split("\t")[0] for answer in answers[3:5]] == ["0.5000", "0.5000"]
    alone = run_script("docker/predict.py", settings, stdin=pictures[6].encode())
    assert float(alone.stdout.split()[0]) == pytest.approx(float(answers[8].split()[0]), abs=5e-4)


def test_a_folder_without_categories_answers_as_before(guard_dir, tmp_path):
    """One that an earlier version wrote: the same probability, no category, not one token more."""
    import shutil

    from detector.meme import Meme

    shutil.copytree(guard_dir, tmp_path / "old")
    scoring = json.loads((guard_dir / "scoring.json").read_text())
    del scoring["categories"]
    (tmp_path / "old" / "scoring.json").write_text(json.dumps(scoring))
    asked, plain = Meme("1", text="hello", caption="a cat"), Meme("1", text="hello", caption="a cat")
    text_scorer(guard_dir).score([asked])
    text_scorer(tmp_path / "old").score([plain])
    assert plain.probability == pytest.approx(asked.probability, abs=1e-5)
    assert plain.categories == {} and sum(asked.categories.values()) == pytest.approx(1, abs=1e-6)


def test_evaluate_model_and_the_container_give_the_same_probability_and_label(guard_dir, run_script, tmp_path):
    """With a temperature that matters, and with text, caption, both or neither."""
    import shutil
    from dataclasses import replace

    from detector.meme import Meme, label_of

    model, table = tmp_path / "model", tmp_path / "cases.jsonl"
    shutil.copytree(guard_dir, model)
    scoring = json.loads((model / "scoring.json").read_text())
    (model / "scoring.json").write_text(json.dumps({**scoring, "temperature": 0.05, "threshold": 0.5}))
    cases = [("hello </s> world", "a cat"), ("hello", None), ("", "a bus"), ("", None), ("x" * 2000, "a cat on a bus")]
    table.write_text(
        "".join(
            json.dumps({"text": text, "image": caption, "label": number % 2}) + "\n"
            for number, (text, caption) in enumerate(cases)
        )
    )
    done = run_script(
        "training_pipeline/evaluate_model.py",
        {"MODEL_DIR": model, "DATASET_DIR": table, "OUTPUT_DIR": tmp_path / "out", "DTYPE": "float32"},
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    lines = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    scorer = text_scorer(model)
    batch = [Meme(str(number), caption=caption, text=text) for number, (text, caption) in enumerate(cases)]
    scorer.score(batch)
    assert [line["probability"] for line in lines] == pytest.approx([meme.probability for meme in batch], abs=1e-4)
    assert [line["label"] for line in lines] == [label_of(meme.probability, 0.5) for meme in batch]
    for line, meme in zip(lines, batch, strict=True):
        assert line["error"] == meme.error
        assert line["categories"] == pytest.approx(meme.categories, abs=1e-4)
        assert {name: line[f"probability_{name}"] for name in ("text", "image_text")} == pytest.approx(
            {name: meme.views.get(name) for name in ("text", "image_text")}, abs=1e-4
        )
    scorer.chat_model.prompt = replace(scorer.chat_model.prompt, temperature=1.0)
    plain = Meme("1", text="hello")
    scorer.score([plain])
    assert abs(plain.probability - lines[1]["probability"]) > 1e-3  # the temperature was at work
