"""The demo runs the scripts as users do: every variable it sets is one that the script's --help lists."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path


def load_demo(repo):
    spec = importlib.util.spec_from_file_location("demo", repo / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    return demo


def variables_of(script) -> set[str]:
    """The variables that --help prints, which is how a user learns of them."""
    manual = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=True).stdout
    return {flag.upper().replace("-", "_") for flag in re.findall(r"^  --([a-z0-9-]+)", manual, re.M)}


def test_no_stage_uses_a_private_switch(repo):
    for name, script, settings, _ in load_demo(repo).stages(Path("out")):
        assert settings.keys() <= variables_of(repo / script), name


def test_the_artifacts_that_the_readme_promises_are_written(repo):
    written = " ".join(stage[3] for stage in load_demo(repo).stages(Path("out"))).split()
    assert {"base-llm", "captioner", "raw", "dataset", "lora", "merged", "llm-gptq", "predictions.tsv"} <= set(written)


def test_the_sample_auroc_is_that_of_the_labels(repo):
    demo = load_demo(repo)
    names = (demo.SAMPLES / "stdin.csv").read_text(encoding="utf-8").split()
    gold = [
        line.split(",")[0]
        for line in (demo.SAMPLES / "labels.csv").read_text(encoding="utf-8").splitlines()
        if ",offensive," in line
    ]
    images = [str(demo.SAMPLES / name) for name in names]
    perfect = [f"{0.9 if name in gold else 0.1:.4f}\t0" for name in names]
    assert demo.sample_auroc(images, perfect) == 1.0
    assert demo.sample_auroc(images, ["0.5000\t0"] * len(names)) == 0.5
