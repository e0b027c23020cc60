"""Measure predict_with_ray.py against predict.py on the same pictures, and count from it what a day's millions take.

Each is run twice, over few pictures and over many: the difference gives images a second, what is left of the first run
is start-up. Memory is each process's own share (PSS), sampled all along, the most that any of its kind took.

Reads   IMAGES_DIR (any pictures; drawn memes if unset). Models of LLM_SIZE and BLIP_SIZE are made with random weights.
Writes  stdout: Markdown tables of what was measured; then, apart from them, an estimate on paper for A_DAY pictures,
        from the measured rates and from the assumptions that are settings here.

    python benchmarks/bench_scale.py
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docker"))

import psutil  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from pydantic import DirectoryPath, Field  # noqa: E402

from bench_predict import pictures  # noqa: E402
from detector.script_settings import ScriptSettings  # noqa: E402
from random_models import BLIP_SIZES, save_random_captioner, save_random_llm  # noqa: E402

KINDS = ("ReaderActor", "ScorerActor")


class Settings(ScriptSettings):
    images_dir: DirectoryPath | None = Field(None, description="pictures to score; drawn memes when unset")
    images: int = Field(120, ge=2, description="how many pictures the longer run has")
    few_images: int = Field(24, ge=1, description="how many the shorter run has")
    llm_size: str = Field("56m", pattern="^(tiny|56m|100m|7b)$", description="tiny, 56m, 100m or 7b")
    blip_size: str = Field("base", pattern="^(tiny|base)$", description="tiny or base")
    batch_size: int = Field(10, ge=1, description="BATCH_SIZE of both")
    a_day: int = Field(50_000_000, ge=1, description="estimate: pictures a day")
    load: float = Field(0.7, gt=0, le=1, description="estimate: share of the time in which machines do useful work")
    parameters: float = Field(7.24e9, gt=0, description="estimate: parameters of the chat model")
    caption_tflop: float = Field(
        0.12, gt=0, description="estimate: TFLOP of a caption by BLIP base (0.10 the picture, 0.02 twenty tokens)"
    )
    gpu_tflops: float = Field(100, gt=0, description="estimate: TFLOP/s that a GPU sustains on packed rows")


def main() -> int:
    settings = Settings.read(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        save_random_llm(folder / "llm", settings.llm_size, "float32")
        save_random_captioner(folder / "blip", settings.blip_size)
        (folder / "pictures").mkdir()
        paths = distinct(pictures(settings, folder / "pictures"), folder / "links")
        found = {"predict.py": both_runs(settings, folder, paths, {})}
        for workers in ("1", "2"):
            found[f"predict_with_ray.py, {workers} + {workers} workers"] = both_runs(
                settings, folder, paths, {"WORKERS": workers, "OCR_WORKERS": workers}
            )
        report(settings, found)
        estimate(settings, folder, found["predict_with_ray.py, 1 + 1 workers"])
    return 0


def distinct(paths: list[str], folder: Path) -> list[str]:
    """A name of its own for each, where pictures were repeated: a path is a key."""
    folder.mkdir()
    named = [folder / f"{number}{Path(path).suffix}" for number, path in enumerate(paths)]
    for name, path in zip(named, paths, strict=True):
        name.symlink_to(Path(path).resolve())
    return [str(name) for name in named]


def both_runs(settings, folder: Path, paths: list[str], workers: dict) -> dict:
    """images_a_second, start_up (seconds), memory {kind: MiB}, rows [dict], output (folder, if by Ray)."""
    few = timed(settings, folder, paths[: settings.few_images], workers)
    many = timed(settings, folder, paths, workers)
    rate = (len(paths) - settings.few_images) / (many["seconds"] - few["seconds"])
    return many | {"images_a_second": rate, "start_up": few["seconds"] - settings.few_images / rate}


def timed(settings, folder: Path, paths: list[str], workers: dict) -> dict:
    """One run as a user starts it; `workers` empty means predict.py."""
    (folder / "stdin.txt").write_text("\n".join(paths))
    output = Path(tempfile.mkdtemp(dir=folder))
    common = {"LLM_DIR": folder / "llm", "CAPTION_MODEL_DIR": folder / "blip", "BATCH_SIZE": settings.batch_size}
    if workers:
        script, own = (
            "predict_with_ray.py",
            {**workers, "INPUT": folder / "stdin.txt", "OUTPUT": output / "rows", "ROWS_A_FILE": settings.batch_size},
        )
    else:
        script, own = "predict.py", {"DETAILS_PATH": output / "rows.jsonl"}
    environment = {**os.environ, **{name: str(value) for name, value in {**common, **own}.items()}}
    start = time.perf_counter()
    with open(folder / "stdin.txt", "rb") as stdin, open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "docker" / script)],
            env=environment,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        memory = watch(process)
    if process.returncode:
        raise SystemExit(f"{script} failed:\n{(folder / 'log').read_text()[-3000:]}")
    return {"seconds": time.perf_counter() - start, "memory": memory, "rows": rows_of(output), "output": output}


def watch(process: subprocess.Popen) -> dict[str, float]:
    """Most MiB of a process of each kind, until this one ends: a reader, a scorer, the script itself, all the rest."""
    most: dict[str, float] = defaultdict(float)
    while process.poll() is None:
        now: dict[str, float] = defaultdict(float)
        for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
            try:
                name, size = " ".join(each.cmdline()), each.memory_full_info().pss / 2**20
            except psutil.Error:
                continue
            kind = next((kind for kind in KINDS if kind in name), None)
            kind = kind or ("script" if each.pid == process.pid else "rest")
            now[kind] = now[kind] + size if kind == "rest" else max(now[kind], size)
        for kind, size in now.items():
            most[kind] = max(most[kind], size)
        time.sleep(0.5)
    return most


def rows_of(output: Path) -> list[dict]:
    """What either script says of each picture, by path."""
    import json

    if (output / "rows.jsonl").exists():
        lines = (output / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        return sorted(map(json.loads, lines), key=lambda row: row["path"])
    rows = [row for file in (output / "rows").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    return sorted(rows, key=lambda row: row["path"])


def report(settings, found: dict) -> None:
    print(
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, no GPU, LLM {settings.llm_size}, "
        f"BLIP {settings.blip_size}, {settings.images} and {settings.few_images} images\n"
    )
    print("| | images/s | of predict.py | start-up, s | largest difference | script, MiB | reader | scorer | rest |")
    print("| --- " * 9 + "|")
    plain = found["predict.py"]
    for name, run in found.items():
        memory = [run["memory"].get(kind) for kind in ("script", *KINDS, "rest")]
        difference = max(
            abs(row["probability"] - exact["probability"])
            for row, exact in zip(run["rows"], plain["rows"], strict=True)
        )
        sizes = " | ".join(f"{size:.0f}" if size else "" for size in memory)
        print(
            f"| {name} | {run['images_a_second']:.2f} | {run['images_a_second'] / plain['images_a_second']:.2f} | "
            f"{run['start_up']:.1f} | {difference:.1e} | {sizes} |"
        )


def estimate(settings, folder: Path, run: dict) -> None:
    """On paper: measured numbers first, then assumptions, then what follows."""
    good = [row for row in run["rows"] if not row["error"]]
    reading = mean(sum(row["milliseconds"][stage] for stage in ("decode", "pixels", "ocr")) for row in good) / 1000
    tokens = mean_tokens(folder / "llm", good)
    memory = run["memory"]["ReaderActor"]
    row_bytes, key_bytes = (
        sum(file.stat().st_size for file in (run["output"] / name).glob("*.parquet")) / len(run["rows"])
        for name in ("rows", "rows.checkpoint")
    )
    print(f"\nOn paper, {settings.a_day:,} pictures a day:\n\n| | | from |\n| --- | --- | --- |")
    for line in [
        ("reading a picture", f"{reading:.2f} s of a CPU", "measured, 1 + 1 workers"),
        ("tokens a picture, both views", f"{tokens:.0f}", "measured: these texts, captions of full length"),
        (
            "OUTPUT and checkpoint, a picture",
            f"{row_bytes:.0f} and {key_bytes:.0f} bytes",
            f"measured, files of {settings.batch_size} rows; larger ones compress better",
        ),
        ("memory of a reader", f"{memory:.0f} MiB", "measured"),
        *on_paper(settings, reading, tokens, memory, row_bytes + key_bytes),
    ]:
        print(f"| {' | '.join(line)} |")


def on_paper(settings, reading: float, tokens: float, memory: float, stored: float) -> list[tuple[str, str, str]]:
    """Assumptions, and what follows from them and from seconds, tokens, MiB and bytes a picture."""
    a_second = settings.a_day / 86_400
    tflop = 2 * settings.parameters * tokens / 1e12 + settings.caption_tflop
    readers = a_second * reading / settings.load
    gpus = a_second * tflop / settings.gpu_tflops / settings.load
    side = BLIP_SIZES["base"][3]
    return [
        ("chat model", f"{settings.parameters / 1e9:g} billion parameters", "assumed"),
        ("a GPU sustains", f"{settings.gpu_tflops:g} TFLOP/s", "assumed"),
        ("load", f"{settings.load:g}", "assumed: share of the time in which a machine does useful work"),
        ("a picture takes", f"{tflop:.2f} TFLOP", f"2 x parameters x tokens + {settings.caption_tflop:g} for BLIP"),
        ("pictures a second", f"{a_second:.0f}", "mean of the day"),
        ("CPUs that read", f"{readers:,.0f}", "pictures a second x seconds / load"),
        ("their memory", f"{readers * memory / 1024:,.0f} GiB", "CPUs x memory of a reader"),
        ("GPUs that score", f"{gpus:,.1f}", "pictures a second x TFLOP / TFLOP/s / load"),
        (
            "from readers to scorers",
            f"{a_second * 3 * side * side * 4 / 1e9:.2f} GB/s",
            f"3 x {side} x {side} float32 a picture",
        ),
        ("OUTPUT and checkpoint a day", f"{settings.a_day * stored / 1e9:,.0f} GB", "pictures x bytes"),
        ("CPU hours a day", f"{readers * 24:,.0f}", "to be multiplied by your price"),
        ("GPU hours a day", f"{gpus * 24:,.0f}", "to be multiplied by your price"),
    ]


def mean_tokens(llm_dir: Path, rows: list[dict]) -> float:
    """Tokens behind the policy, both views together."""
    from transformers import AutoTokenizer

    from detector.prompt import build_prompt, read_scoring, view_windows

    prompt = build_prompt(AutoTokenizer.from_pretrained(llm_dir), read_scoring(llm_dir))
    return mean(
        sum(
            len(suffix)
            for windows in view_windows(prompt, row["text"], row["caption"], prompt.max_text_tokens).suffixes.values()
            for suffix in windows
        )
        for row in rows
    )


if __name__ == "__main__":
    raise SystemExit(main())
