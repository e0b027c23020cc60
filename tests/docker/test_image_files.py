"""What can be said about the image without an engine: its files, its settings, and the self-check that ends a build."""

import ast
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from detector.meme import Evidence
from detector.tamil_ocr import tamil_folder


@pytest.fixture(scope="module")
def dockerfile(repo) -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continued lines joined, comments dropped."""
    text = (repo / "docker/gptq.dockerfile").read_text(encoding="utf-8")
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


@pytest.fixture(scope="module")
def final_stage(dockerfile) -> list[tuple[str, str]]:
    last = max(number for number, (instruction, _) in enumerate(dockerfile) if instruction == "FROM")
    return dockerfile[last:]


@pytest.fixture(scope="module")
def is_ignored(repo):
    """is_ignored(path in docker/), by Docker's rule: the last pattern counts that fits it or a folder above it."""
    lines = (repo / "docker/.dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]

    def as_regex(pattern: str) -> str:
        parts = {r"\*\*/": "(.*/)?", r"/\*\*": "/.*", r"\*": "[^/]*"}
        return re.sub(r"\\\*\\\*/|/\\\*\\\*|\\\*", lambda found: parts[found[0]], re.escape(pattern))

    def ask(path: str) -> bool:
        parents = [path, *("/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1))]
        ignored = False
        for pattern in patterns:
            if any(re.fullmatch(as_regex(pattern.removeprefix("!")), part) for part in parents):
                ignored = not pattern.startswith("!")
        return ignored

    return ask


def test_the_build_gets_exactly_what_predict_and_the_self_check_are_made_of(repo, final_stage, is_ignored):
    folder = repo / "docker"
    modules = modules_reached_from(folder, "predict", "self_check")
    assert {"detector/chat_model.py", "detector/script_settings.py"} <= modules, "the walk found too little"
    copied = {name for line in arguments_of(final_stage, "COPY") if "--from" not in line for name in line.split()[:-1]}
    assert copied == {"predict.py", "self_check.py", "self_check.png", "detector"}
    made_here = ("models-for-build", "wheels", "models", "llm-gptq", "captioner", "__pycache__")
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    sent = {str(path) for path in files if not set(path.parts) & set(made_here) and not is_ignored(str(path))}
    assert sent == modules | {"self_check.png", "requirements.txt", "constraints.txt"}
    others = {
        "batch/actors.py",
        "report/page.py",
        "report/templates/page.html.j2",
        "predict_with_ray.py",
        "smoke_test.sh",
    }
    assert others <= {str(path) for path in files} - sent


@pytest.mark.parametrize(
    "path",
    [
        "predictions.tsv",
        "stdin.csv",
        "memes2024.tar.gz",
        ".env",
        "memes/0.png",
        "__pycache__/predict.cpython-311.pyc",
        "detector/__pycache__/ocr.cpython-311.pyc",
        "models/openchat/.git/lfs/objects/ab/cd",
        "models/blip/pytorch_model.bin",
        "captioner/tf_model.h5",
        "llm-gptq/.env.local",
        "llm-gptq/checkpoint-50/optimizer.pt",
        "another-model/model.safetensors",
    ],
)
def test_what_the_image_does_not_need_stays_out_of_the_build(is_ignored, path):
    assert is_ignored(path)


@pytest.mark.parametrize("folder", ["llm-gptq", "models/openchat", "models-for-build/llm"])
def test_a_models_own_files_get_in(is_ignored, folder):
    for name in ("config.json", "scoring.json", "model-00001-of-00002.safetensors", "tokenizer.model", "training.json"):
        assert not is_ignored(f"{folder}/{name}")
    assert not is_ignored("captioner/model.safetensors") and not is_ignored("wheels/torch-2.13.0-cp311.whl")


def test_docker_build_without_a_name_finds_the_one_dockerfile(repo, dockerfile):
    assert os.readlink(repo / "docker/Dockerfile") == "gptq.dockerfile"
    assert {"LLM=llm-gptq", "CAPTIONER=captioner"} <= set(arguments_of(dockerfile, "ARG"))


def arguments_of(stage: list[tuple[str, str]], instruction: str) -> list[str]:
    return [arguments for name, arguments in stage if name == instruction]


def modules_reached_from(folder, *scripts) -> set[str]:
    """Files of the folder that these import, however deep, those inside functions too."""
    found, waiting = set(), list(scripts)
    while waiting:
        name = waiting.pop().replace(".", "/")
        file = next((file for file in (f"{name}.py", f"{name}/__init__.py") if (folder / file).is_file()), None)
        if file is None or file in found:
            continue
        found.add(file)
        waiting += [str(parent) for parent in Path(name).parents if parent.name]
        for node in ast.walk(ast.parse((folder / file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def test_the_torch_that_goes_first_is_the_pinned_one(repo, dockerfile):
    install = next(arguments for instruction, arguments in dockerfile if "pip install" in arguments)
    expression = re.search(r"sed -nE '([^']+)' requirements.txt", install)[1]
    first = subprocess.run(["sed", "-nE", expression, repo / "docker/requirements.txt"], capture_output=True, text=True)
    pinned = re.search(r"^torch==\S+", (repo / "requirements.txt").read_text(encoding="utf-8"), re.M)[0]
    assert first.stdout == pinned + "\n"


def test_the_process_is_predict_itself_and_not_root(final_stage):
    *_, entrypoint = arguments_of(final_stage, "ENTRYPOINT")
    assert json.loads(entrypoint) == ["/opt/venv/bin/python", "/app/predict.py"]
    assert arguments_of(final_stage, "USER") == ["10001:10001"]


def test_code_lies_above_weights_and_weights_above_packages(final_stage):
    order = [arguments for _, arguments in final_stage]
    places = [
        next(number for number, arguments in enumerate(order) if arguments.endswith(target))
        for target in ("/opt/venv /opt/venv", "/models/llm", "/app/", "/app/detector", 'self_check.py"]')
    ]
    assert places == sorted(places)
    assert not [command for command in arguments_of(final_stage, "RUN") if "install" in command]


def test_the_environment_is_offline_counts_two_cpus_and_caches_in_tmp(repo, final_stage):
    words = " ".join(arguments_of(final_stage, "ENV")).split()
    environment = dict(word.split("=", 1) for word in words)
    offline = re.search(r"for name in \(([^)]+)\)", (repo / "docker/detector/device.py").read_text(encoding="utf-8"))[1]
    assert all(environment[name] == "1" for name in re.findall(r'"(\w+)"', offline))
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    threads = {name: value for name, value in environment.items() if re.search("THREADS|WORKERS", name)}
    assert {"OMP_NUM_THREADS", "OCR_WORKERS", "GPTQMODEL_CPU_WORKERS"} <= threads.keys()
    assert set(threads.values()) == {"2"}
    caches = {name: value for name, value in environment.items() if re.search("CACHE|HOME|CONFIGDIR", name)}
    assert len(caches) > 5 and all(value == "/tmp" or value.startswith("/tmp/") for value in caches.values())


@pytest.mark.skipif(tamil_folder(None) is None, reason="tesseract-ocr-tam is not installed")
def test_models_that_can_be_used_pass_the_self_check(run_script, models):
    checked = run_script("docker/self_check.py", models)
    assert checked.returncode == 0, checked.stderr.decode()
    assert b"the model folders can be used" in checked.stderr and checked.stdout == b""


def test_a_folder_that_cannot_be_used_ends_the_build(run_script, models, tmp_path):
    checked = run_script("docker/self_check.py", {**models, "LLM_DIR": tmp_path, "CAPTION_MODEL_DIR": "/none"})
    assert checked.returncode == 1 and b"Traceback" not in checked.stderr
    for error in (
        b"lacks scoring.json: make a guard model",
        b"lacks config.json",
        b"lacks tokenizer.json",
        b"CAPTION_MODEL_DIR=/none is no folder",
    ):
        assert error in checked.stderr


def shards_listed(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-2-of-2.safetensors"}}))


def lfs_pointer(folder):
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def tokenizer_model_alone(folder):
    (folder / "tokenizer.json").rename(folder / "tokenizer.model")


@pytest.mark.parametrize(
    ("breaking", "named"),
    [
        (shards_listed, "lacks model-2-of-2.safetensors"),
        (lfs_pointer, "holds model.safetensors as a Git LFS pointer, not the file: run `git lfs pull`"),
        (tokenizer_model_alone, "holds tokenizer.model but no tokenizer.json"),
    ],
)
def test_weights_that_did_not_come_whole_are_named(llm_dir, tmp_path, breaking, named):
    from self_check import LLM_FILES, folder_errors

    folder = tmp_path / "llm"
    shutil.copytree(llm_dir, folder)
    assert folder_errors("LLM_DIR", folder, LLM_FILES) == []
    breaking(folder)
    (error,) = folder_errors("LLM_DIR", folder, LLM_FILES)
    assert named in error


@pytest.mark.parametrize(("variable", "lost"), [("LLM_DIR", "layers.1.mlp."), ("CAPTION_MODEL_DIR", "layer.1.output.")])
def test_weights_that_lack_tensors_are_refused_where_they_would_be_random(run_script, models, tmp_path, variable, lost):
    """At every start other numbers, without a word: by predict.py, and so by the build."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(models[variable], folder)
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if lost not in name}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    for script, status in (("docker/predict.py", 2), ("docker/self_check.py", 1)):
        refused = run_script(script, {**models, variable: folder}, stdin=b"a.png\n")
        assert refused.returncode == status and refused.stdout == b"" and b"Traceback" not in refused.stderr
        assert f"{variable}={folder}: lacks {len(tensors) - len(kept)} tensors (".encode() in refused.stderr


def test_label_words_of_several_tokens_are_found_before_the_weights_are_loaded(llm_dir, tmp_path):
    from self_check import prompt_errors

    folder = tmp_path / "llm"
    shutil.copytree(llm_dir, folder)
    assert prompt_errors(folder) == []
    (folder / "model.safetensors").unlink()
    scoring = json.loads((folder / "scoring.json").read_text(encoding="utf-8"))
    scoring["label_words"]["offensive"] = "definitely harmful"
    (folder / "scoring.json").write_text(json.dumps(scoring), encoding="utf-8")
    (error,) = prompt_errors(folder)
    assert "not one token each" in error


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"text": "GOOD MORNING"}, "Tamil"),
        ({"text": "வணக்கம்"}, "English"),
        ({"caption": ""}, "captioner"),
        ({"probability_text": None, "probability_image_text": None}, "no view"),
        ({"label": 1}, "not one line"),
    ],
)
def test_evidence_that_is_not_right_is_named(change, named):
    from self_check import evidence_errors

    sound = Evidence(
        probability=0.25,
        label=0,
        text="GOOD MORNING காலை வணக்கம்",
        caption="a pear",
        probability_text=0.2,
        probability_image_text=0.3,
    )
    assert evidence_errors(sound, b"0.2500\t0\n", captioned=True) == []
    assert evidence_errors(replace(sound, caption=None), b"0.2500\t0\n", captioned=False) == []
    (error,) = evidence_errors(replace(sound, **change), b"0.2500\t0\n", captioned=True)
    assert named in error
