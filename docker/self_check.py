"""Prove that the model folders can be used: the image's build runs this and fails where they cannot.

Reads   LLM_DIR, CAPTION_MODEL_DIR: the folders that predict.py will read; self_check.png beside this file.
Writes  stderr: what is wrong and the remedy, or one line that all is well. Exit status 1 where something is wrong.

    LLM_DIR=llm-gptq CAPTION_MODEL_DIR=captioner python docker/self_check.py

Checked are the files (there, readable, no Git LFS pointers), scoring.json and the label words, and then predict.py
itself: it must score the sample picture and have read its English and its Tamil, captioned it, where there is a
captioner, and scored a view.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from detector.meme import Evidence
from detector.settings import ModelFolders
from detector.whole_model import tokenizer_faults, weight_faults

HERE = Path(__file__).resolve().parent
SAMPLE = HERE / "self_check.png"
SAMPLE_ENGLISH, SAMPLE_TAMIL = "GOOD MORNING", "வணக்கம்"
# Beside weights and tokenizer a folder needs one name of each group.
LLM_FILES = (("scoring.json",),)
CAPTIONER_FILES = (("preprocessor_config.json", "processor_config.json"),)


class Settings(ModelFolders):
    """The folders alone: what is wrong with one is said below."""


def main() -> int:
    settings = Settings.read(__doc__)
    errors = folder_errors("LLM_DIR", settings.llm_dir, LLM_FILES)
    if settings.caption_model_dir:
        errors += folder_errors("CAPTION_MODEL_DIR", settings.caption_model_dir, CAPTIONER_FILES)
    errors = errors or prompt_errors(settings.llm_dir) or prediction_errors(settings)
    for error in errors:
        print(f"self_check.py: {error}", file=sys.stderr)
    if not errors:
        print("self_check.py: the model folders can be used", file=sys.stderr)
    return int(bool(errors))


def folder_errors(variable: str, folder: Path, wanted: tuple[tuple[str, ...], ...]) -> list[str]:
    """What keeps the files of a model folder from being loaded, each with its remedy."""
    if not folder.is_dir():
        return [f"{variable}={folder} is no folder: place the model there"]
    errors = [
        f"{variable}={folder} lacks {' or '.join(names)}{remedy(names[0])}"
        for names in wanted
        if not any((folder / name).is_file() for name in names)
    ]
    unreadable = [path for path in sorted(folder.rglob("*")) if path.is_file() and not os.access(path, os.R_OK)]
    if unreadable:
        return errors + [f"{path} cannot be read by everybody: chmod -R a+rX {folder}" for path in unreadable]
    faults = weight_faults(folder) + tokenizer_faults(folder)
    return errors + [f"{variable}={folder} {fault}" for fault in faults]


def remedy(name: str) -> str:
    if name == "scoring.json":
        return ": make a guard model of it with attach_policy.py or quantize_model.py"
    return ": copy the model's folder whole"


def prompt_errors(llm_dir: Path) -> list[str]:
    """Errors in scoring.json, the chat template and the label words, found before the weights are loaded."""
    from transformers import AutoTokenizer

    from detector.prompt import UnusableModel, build_prompt, read_scoring

    try:
        build_prompt(AutoTokenizer.from_pretrained(llm_dir, local_files_only=True), read_scoring(llm_dir))
    except (UnusableModel, OSError, ValueError) as error:
        return [f"LLM_DIR={llm_dir}: {error}"]
    return []


def prediction_errors(settings: Settings) -> list[str]:
    """Run predict.py on the sample picture, as strictly as it can be, and look at its answer and its evidence."""
    with tempfile.TemporaryDirectory() as scratch:
        details = Path(scratch) / "details.jsonl"
        run = subprocess.run(
            [sys.executable, str(HERE / "predict.py")],
            input=os.fsencode(SAMPLE) + b"\n",
            capture_output=True,
            # Every cache goes where it is removed again: the build's layer stays empty.
            env={
                **os.environ,
                "TMPDIR": scratch,
                "HOME": scratch,
                "XDG_CACHE_HOME": scratch,
                "HF_HOME": scratch,
                "STRICT": "1",
                "DETAILS_PATH": str(details),
            },
        )
        if run.returncode or not details.is_file():
            tail = "\n  ".join(run.stderr.decode(errors="replace").strip().splitlines()[-8:])
            return [f"predict.py failed on {SAMPLE.name} (exit status {run.returncode}):\n  {tail}"]
        found = Evidence(**json.loads(details.read_text(encoding="utf-8")))
    return evidence_errors(found, run.stdout, captioned=settings.caption_model_dir is not None)


def evidence_errors(found: Evidence, stdout: bytes, captioned: bool) -> list[str]:
    """What is wrong with the line of stdout and the evidence of the sample picture."""
    errors = []
    if found.label is None or stdout != f"{found.probability:.4f}\t{found.label}\n".encode():
        errors.append(f"predict.py answered {stdout!r}, not one line of probability and label")
    if SAMPLE_ENGLISH not in (found.text or ""):
        errors.append(f"the sample's English was read as {found.text!r}: reinstall requirements.txt")
    if SAMPLE_TAMIL not in (found.text or ""):
        errors.append(f"the sample's Tamil was read as {found.text!r}: apt install tesseract-ocr-tam")
    if captioned and not found.caption:
        errors.append("the captioner said nothing about the sample: is CAPTION_MODEL_DIR a BLIP captioning model?")
    if found.probability_text is None and found.probability_image_text is None:
        errors.append("no view of the sample was scored")
    return errors


if __name__ == "__main__":
    raise SystemExit(main())
