"""What can be said about the image without an engine: its files, its settings, and the self-check that ends a build."""

import ast
import json
import re
import shutil
import subprocess

import pytest

from tamil_ocr import tamil_folder


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


def is_ignored(repo, path: str) -> bool:
    """Docker's rule: a pattern starts at the context's root, and what lies below a match is out too."""
    patterns = [
        line for line in (repo / "docker/.dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    parents = [path, *("/".join(path.split("/")[:depth]) for depth in range(1, path.count("/") + 1))]

    def as_regex(pattern):
        return re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")

    return any(re.fullmatch(as_regex(pattern), part) for pattern in patterns for part in parents)


@pytest.mark.parametrize(
    "path",
    [
        ".dockerignore",
        "gptq.dockerfile",
        "smoke_test.sh",
        "report/page.html",
        "evaluate_predictions.py",
        "predict_with_ray.py",
        "ray_stages.py",
        "picture_source.py",
        "storage.py",
        "ray-cluster.yaml",
        "predictions.tsv",
        "stdin.csv",
        "memes2024.tar.gz",
        ".env",
        "__pycache__/predict.cpython-311.pyc",
        "models/openchat/.git/lfs/objects/ab/cd",
        "models/blip/pytorch_model.bin",
        "models/blip/tf_model.h5",
        "llm-gptq/.env.local",
        "lora/checkpoint-50/optimizer.pt",
    ],
)
def test_what_the_image_does_not_need_stays_out_of_the_build(repo, path):
    assert is_ignored(repo, path)


def test_what_the_image_needs_is_there_and_not_ignored(repo, final_stage):
    imported = modules_reached_from(repo / "docker", "predict", "self_check")
    assert {"guard_scorer", "scoring_session", "script_settings"} <= imported, "the walk found too little"
    copied = [arguments for instruction, arguments in final_stage if instruction == "COPY"]
    assert "*.py self_check.png /app/" in copied
    for name in [f"{module}.py" for module in imported] + ["self_check.png", "requirements.txt"]:
        assert (repo / "docker" / name).is_file() and not is_ignored(repo, name)
    for name in ("config.json", "scoring.json", "model-00001-of-00002.safetensors", "tokenizer.model", "training.json"):
        assert not is_ignored(repo, f"models-for-build/llm/{name}")


def modules_reached_from(folder, *names) -> set[str]:
    """Modules of the folder that these import, however deep, those inside functions too."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name in found or not (folder / f"{name}.py").is_file():
            continue
        found.add(name)
        for node in ast.walk(ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                waiting.append(node.module)
    return found


def test_the_torch_that_goes_first_is_the_pinned_one(repo, dockerfile):
    install = next(arguments for instruction, arguments in dockerfile if "pip install" in arguments)
    expression = re.search(r"sed -nE '([^']+)' requirements.txt", install)[1]
    first = subprocess.run(["sed", "-nE", expression, repo / "docker/requirements.txt"], capture_output=True, text=True)
    pinned = re.search(r"^torch==\S+", (repo / "requirements.txt").read_text(encoding="utf-8"), re.M)[0]
    assert first.stdout == pinned + "\n"


def test_the_process_is_predict_itself_and_not_root(final_stage):
    *_, entrypoint = [arguments for instruction, arguments in final_stage if instruction == "ENTRYPOINT"]
    assert json.loads(entrypoint) == ["/opt/venv/bin/python", "/app/predict.py"]
    users = [arguments for instruction, arguments in final_stage if instruction == "USER"]
    assert users == ["10001:10001"]


def test_code_lies_above_weights_and_weights_above_packages(final_stage):
    order = [arguments for _, arguments in final_stage]
    places = [
        next(number for number, arguments in enumerate(order) if arguments.endswith(target))
        for target in ("/opt/venv /opt/venv", "/models/llm", "/app/", 'self_check.py"]')
    ]
    assert places == sorted(places)
    assert not [arguments for instruction, arguments in final_stage if instruction == "RUN" and "install" in arguments]


def test_the_environment_is_offline_counts_two_cpus_and_caches_in_tmp(repo, final_stage):
    words = " ".join(arguments for instruction, arguments in final_stage if instruction == "ENV").split()
    environment = dict(word.split("=", 1) for word in words)
    offline = re.search(r"for name in \(([^)]+)\)", (repo / "docker/predict.py").read_text(encoding="utf-8"))[1]
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
    assert b"both model folders can be used" in checked.stderr and checked.stdout == b""


def test_a_folder_that_cannot_be_used_ends_the_build(run_script, models, tmp_path):
    checked = run_script("docker/self_check.py", {**models, "LLM_DIR": tmp_path, "CAPTION_MODEL_DIR": "/none"})
    assert checked.returncode == 1 and b"Traceback" not in checked.stderr
    for fault in (
        b"lacks scoring.json: make a guard model",
        b"lacks config.json",
        b"lacks model.safetensors",
        b"CAPTION_MODEL_DIR=/none is no folder",
    ):
        assert fault in checked.stderr


def shards_listed(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "model-2-of-2.safetensors"}}))


def lfs_pointer(folder):
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


@pytest.mark.parametrize(
    ("breaking", "named"),
    [
        (shards_listed, "lacks model-2-of-2.safetensors"),
        (lfs_pointer, "model.safetensors is a Git LFS pointer, not the file: run `git lfs pull`"),
    ],
)
def test_weights_that_did_not_come_whole_are_named(llm_dir, tmp_path, breaking, named):
    from self_check import LLM_FILES, folder_faults

    folder = tmp_path / "llm"
    shutil.copytree(llm_dir, folder)
    assert folder_faults("LLM_DIR", folder, LLM_FILES) == []
    breaking(folder)
    (fault,) = folder_faults("LLM_DIR", folder, LLM_FILES)
    assert named in fault


def test_label_words_of_several_tokens_are_found_before_the_weights_are_loaded(llm_dir, tmp_path):
    from self_check import prompt_faults

    folder = tmp_path / "llm"
    shutil.copytree(llm_dir, folder)
    assert prompt_faults(folder) == []
    (folder / "model.safetensors").unlink()
    scoring = json.loads((folder / "scoring.json").read_text(encoding="utf-8"))
    scoring["label_words"]["offensive"] = "definitely harmful"
    (folder / "scoring.json").write_text(json.dumps(scoring), encoding="utf-8")
    (fault,) = prompt_faults(folder)
    assert "not one token each" in fault


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
    from self_check import evidence_faults

    sound = {
        "probability": 0.25,
        "label": 0,
        "text": "GOOD MORNING காலை வணக்கம்",
        "caption": "a pear",
        "probability_text": 0.2,
        "probability_image_text": 0.3,
    }
    assert evidence_faults(sound, b"0.2500\t0\n") == []
    (fault,) = evidence_faults({**sound, **change}, b"0.2500\t0\n")
    assert named in fault
