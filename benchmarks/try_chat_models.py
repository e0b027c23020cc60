"""Every stage with every family's tokenizer: attach, train three steps, merge, quantise, evaluate, predict.

The weights are random and tiny, the vocabularies, templates and configs those of real models: what is tried is that
the scripts take such a folder, that predict.py's prompt is what a server renders (token by token, on hostile texts),
that no turn marker can be forged, and what rendering costs. A cell says `ok` with the stage's seconds, or the last line
of stderr.

    TOKENIZERS=tokenizers.tar.xz python benchmarks/try_chat_models.py                # a folder of families will do, too
    TOKENIZERS=tokenizers.tar.xz FAMILIES=openchat,qwen3 WORK_DIR=/tmp/families python benchmarks/try_chat_models.py

Writes Markdown to stdout, a row as soon as its family is through.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
for folder in ("tests", "tests/training_pipeline", "training_pipeline", "docker"):
    sys.path.insert(0, str(REPOSITORY / folder))
from small_memes import TINY_RUN, meme_rows, save_dataset  # noqa: E402

from chat_families import HOSTILE_PARTS, forged, ten_spellings, unpack_archive  # noqa: E402

THREE_STEPS = {**TINY_RUN, "MAX_STEPS": "3", "EVAL_STEPS": "3", "SAVE_STEPS": "3", "LORA_R": "4"}
PICTURE = REPOSITORY / "datasets/sample_memes/held_out/meme_001.png"
STAGES = ("attach", "train", "merge", "quantise", "evaluate", "predict")
COLUMNS = ("family", *STAGES, "other ids", "forged", "ms a text", "what is asked")


def main() -> None:
    source = Path(os.environ["TOKENIZERS"])
    wanted = [name for name in os.environ.get("FAMILIES", "").split(",") if name]
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(os.environ.get("WORK_DIR", scratch))
        folders = sorted(source.iterdir()) if source.is_dir() else unpack_archive(work / "families", source)
        dataset = work / "dataset"
        if not dataset.exists():
            save_dataset(dataset, train=meme_rows(96, 1), validation=meme_rows(24, 2), test=meme_rows(24, 3))
        print_row(COLUMNS)
        print_row(["---"] * len(COLUMNS))
        for folder in folders:
            if not wanted or folder.name in wanted:
                print_row([folder.name, *try_family(folder, work / folder.name, dataset)])


def print_row(cells) -> None:
    print(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |", flush=True)


def try_family(tokenizer_dir: Path, work: Path, dataset: Path) -> list[str]:
    """The cells of a family's row."""
    model, guard, lora, merged, gptq = (work / name for name in ("model", "guard", "lora", "merged", "gptq"))
    make_model(tokenizer_dir, model)
    trained = {"MODEL_DIR": guard, "DATASET_DIR": dataset, "OUTPUT_DIR": lora, **THREE_STEPS}
    cells = {
        "attach": stage("training_pipeline/attach_policy.py", {"MODEL_DIR": model, "OUTPUT_DIR": guard}),
        "train": stage("training_pipeline/train_model.py", trained),
        "merge": stage("training_pipeline/load_lora.py", {"MODEL_DIR": guard, "LORA_DIR": lora, "OUTPUT_DIR": merged}),
        "quantise": stage(
            "training_pipeline/quantize_model.py", {"MODEL_DIR": merged, "DATASET_DIR": dataset, "OUTPUT_DIR": gptq}
        ),
        "evaluate": stage(
            "training_pipeline/evaluate_model.py",
            {"MODEL_DIR": gptq, "DATASET_DIR": dataset, "OUTPUT_DIR": work / "evaluation", "BOOTSTRAP_SAMPLES": "100"},
        ),
        "predict": stage("docker/predict.py", {"LLM_DIR": gptq, "STRICT": "1"}, stdin=f"{PICTURE}\n".encode()),
    }
    asked = re.search(r"\}; (token .*)", cells["attach"][1])
    checked = check_prompt(tokenizer_dir, gptq) if (gptq / "scoring.json").exists() else ["not tried"] * 3
    return [*(cell for cell, _ in cells.values()), *checked, f"`{asked[1]}`" if asked else ""]


def make_model(tokenizer_dir: Path, folder: Path) -> None:
    """Random weights of the family's config beside its tokenizer, as published."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    shutil.copytree(tokenizer_dir, folder)
    config = AutoConfig.from_pretrained(tokenizer_dir)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def stage(script: str, settings: dict[str, object], stdin: bytes = b"") -> tuple[str, str]:
    """(cell, stdout) of one run as a user does it."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / script)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", **{name: str(value) for name, value in settings.items()}},
        input=stdin,
        capture_output=True,
    )
    if done.returncode == 0:
        return f"ok {time.monotonic() - started:.0f} s", done.stdout.decode()
    sys.stderr.write(done.stderr.decode(errors="replace"))
    return (done.stderr.decode(errors="replace").strip().splitlines() or ["failed"])[-1], ""


def check_prompt(tokenizer_dir: Path, guard: Path) -> list[str]:
    """Texts whose ids differ from a server's, markers forged in ten spellings, and milliseconds a text at most."""
    from transformers import AutoTokenizer

    from detector.prompt import build_prompt, read_scoring, view_ids
    from guard.chat_text import freeze_date
    from guard.markup import turn_markers

    chat = AutoTokenizer.from_pretrained(tokenizer_dir)
    chat.chat_template = freeze_date(chat.chat_template)
    markers = turn_markers(chat)
    tokenizer = AutoTokenizer.from_pretrained(guard)
    prompt = build_prompt(tokenizer, read_scoring(guard))
    texts = [*HOSTILE_PARTS, *(f"{spelling} safe" for marker in markers for spelling in ten_spellings(marker))]
    differing, found, slowest = 0, 0, 0.0
    for text in texts:
        started = time.thread_time()
        ids = view_ids(prompt, text, 10**6)
        slowest = max(slowest, time.thread_time() - started)
        message = [{"role": "user", "content": text}]
        served = tokenizer.apply_chat_template(message, tokenize=True, add_generation_prompt=True)["input_ids"]
        differing += prompt.prefix_ids + ids != served
        content = ids[: len(ids) - len(prompt.suffix_ids)]
        found += any(forged(tokenizer, content, marker) for marker in markers)
    markers_told = json.dumps(markers, ensure_ascii=False) if markers else "special tokens"
    return [f"{differing} of {len(texts)}", f"{found} ({markers_told})", f"{1000 * slowest:.2f}"]


if __name__ == "__main__":
    main()
