"""Measure predict.py's way of scoring memes against the ordinary way, on the same weights and pictures, in one run.

The ordinary way takes one image at a time: OCR, a caption by `generate`, then both prompts in full, each by
`generate(max_new_tokens=10)`, in the precision of the folders (float32 on a CPU; the scoring is timed in bfloat16 too).
With random weights no answer ends early: ten tokens are ten, twenty of a caption are twenty. Ours overlaps OCR with the
device, captions in batches and scores both views of a batch in one row behind the cached policy, in predict.py's
precision. The OCR is the same.

What categories cost is measured by the same model asked for nine of them, one token more a view, in turns with the one
that is asked for none: pass by pass over all pictures, texts and captions known, nothing else at work. The aim is at
most 10 % more time in the LLM stage.

Reads   IMAGES_DIR (any pictures; drawn memes if unset). Models of LLM_SIZE and BLIP_SIZE are made with random weights.
Writes  stdout: Markdown tables: seconds an image by stage and end to end, the ratios, and how far the probabilities
        differ; the cost of categories; the start-up of predict.py to its first line.

    python benchmarks/bench_predict.py                          # BLIP base and a 100M LLM on the CPU
    LLM_SIZE=7b IMAGES=256 python benchmarks/bench_predict.py   # on a GPU
"""

import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docker"))

from pydantic import DirectoryPath, Field  # noqa: E402

from detector.script_settings import ScriptSettings  # noqa: E402
from detector.settings import DetectorSettings  # noqa: E402

CATEGORIES = 9  # as many as the project's own policy has
PASSES = 5  # a batch is one call of each stage: several are one measurement


class Settings(ScriptSettings):
    images_dir: DirectoryPath | None = Field(None, description="pictures to score; drawn memes when unset")
    images: int = Field(32, ge=2, description="how many pictures")
    batch_size: int = Field(32, ge=1, description="predict.py's BATCH_SIZE")
    llm_size: str = Field("100m", pattern="^(tiny|100m|7b)$", description="tiny, 100m or 7b")
    blip_size: str = Field("base", pattern="^(tiny|base)$", description="tiny or base")
    dtype: str = Field("auto", description="predict.py's DTYPE (on a CPU the ordinary way is float32)")
    ocr_workers: int = Field(len(os.sched_getaffinity(0)), ge=1, description="predict.py's OCR_WORKERS")
    start_up: bool = Field(True, description="0: do not time predict.py's start-up on tiny models")
    peak_tflops: float | None = Field(None, gt=0, description="the device's peak in the precision used, for its share")


def main() -> int:
    settings = Settings.read(__doc__)
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        paths = pictures(settings, folder)
        report(settings, compare(settings, folder, paths))
        if settings.start_up:
            print(f"\nStart-up, tiny models, to the first line: {start_up_seconds(folder, paths[0]):.1f} s")
    return 0


def pictures(settings, folder: Path) -> list[str]:
    """Paths of `settings.images` pictures, repeated where there are fewer."""
    if settings.images_dir:
        found = sorted(str(path) for path in settings.images_dir.iterdir() if path.suffix in (".png", ".jpg", ".jpeg"))
    else:
        from rendered_memes import rendered_memes

        found = []
        for number, (_, picture, _) in enumerate(rendered_memes(1 + settings.images // 4)):
            found.append(str(folder / f"{number}.png"))
            picture.save(found[-1])
    return (found * (1 + settings.images // len(found)))[: settings.images]


def compare(settings, folder: Path, paths: list[str]) -> dict:
    """Both ways, warmed up, on the same models and pictures."""
    from detector.device import keep_freed_memory, pick_device, pick_dtype
    from detector.ocr import OcrEngine
    from detector.reader import load_reader
    from detector.scorer import load_scorer
    from ordinary_scoring import in_half, ordinary_way, plain_captioner, plain_llm
    from random_models import save_random_captioner, save_random_llm, save_with_categories

    device = pick_device("auto")
    dtype = pick_dtype(device, settings.dtype)
    plain_dtype = "float32" if device == "cpu" else dtype  # what from_pretrained gives
    save_random_llm(folder / "llm", settings.llm_size, plain_dtype)
    save_with_categories(folder / "llm-categories", folder / "llm", CATEGORIES)
    save_random_captioner(folder / "blip", settings.blip_size)
    keep_freed_memory()
    ours_settings = DetectorSettings(
        llm_dir=folder / "llm", caption_model_dir=folder / "blip", dtype=settings.dtype, batch_size=settings.batch_size
    )
    scorer = load_scorer(ours_settings, "auto", {})
    one_by_one = OcrEngine(threads=settings.ocr_workers, exact=settings.dtype == "float32")
    plain_blip = plain_captioner(folder, device, plain_dtype)
    prompt = scorer.chat_model.prompt
    ordinary = ordinary_way(plain_blip, plain_llm(folder, device, plain_dtype), prompt, one_by_one, paths)
    half = in_half(plain_llm(folder, device, "bfloat16"), prompt, ordinary["memes"])
    ours = our_way(settings, load_reader(ours_settings, settings.ocr_workers), scorer, paths)
    again = scored_again(scorer, ordinary["memes"], settings.batch_size)
    asked = load_scorer(
        ours_settings.model_copy(update={"llm_dir": folder / "llm-categories", "caption_model_dir": None}), "auto", {}
    )
    return {
        "ordinary": ordinary,
        "half": half,
        "ours": ours,
        "device": device,
        "dtypes": (plain_dtype, dtype),
        "dp": max(abs(p - q) for p, q in zip(ordinary["probabilities"], again, strict=True)),
        "same_captions": sum(
            first[1] == second.caption for first, second in zip(ordinary["memes"], ours["memes"], strict=True)
        ),
        "scorer": scorer,
        "in_turns": in_turns([scorer, asked], ours["memes"], settings.batch_size),
    }


def our_way(settings, reader, scorer, paths: list[str]) -> dict:
    """predict.py's own reading ahead and scoring; seconds of the device's stages and end to end."""
    from detector.stream import ReadAhead

    warm = reader.read(paths[0])
    scorer.captioner.captions([warm.pixels] * 2)
    scored_again(scorer, [("warm up", "a cat")] * settings.batch_size, settings.batch_size)
    lines, end = os.pipe()
    done, start = [], time.perf_counter()
    ahead = ReadAhead(settings.ocr_workers, 4 * settings.batch_size)
    ahead.start(reader, lines)
    threading.Thread(target=write_lines, args=(end, paths), daemon=True).start()
    for batch in ahead.batches(settings.batch_size, 0.5):
        scorer.score(batch)
        done += batch
    total = time.perf_counter() - start
    ahead.close()
    os.close(lines)
    return {
        "score_seconds": sum(meme.milliseconds["score"] for meme in done) / 1000,
        "total": total,
        "memes": done,
        "undisturbed": undisturbed(scorer, done, settings.batch_size),
    }


def write_lines(descriptor: int, paths: list[str]) -> None:
    with open(descriptor, "w", encoding="utf-8") as lines:
        lines.writelines(f"{path}\n" for path in paths)


def undisturbed(scorer, memes, batch_size: int) -> dict[str, float]:
    """Seconds of our two device stages over all pictures while no OCR takes the processor: the mean of PASSES."""
    marks = [time.perf_counter()]
    for _ in range(PASSES):
        for start in range(0, len(memes), batch_size):
            scorer.captioner.captions([meme.pixels for meme in memes[start : start + batch_size]])
    marks.append(time.perf_counter())
    for _ in range(PASSES):
        scored_again(scorer, [(meme.text, meme.caption) for meme in memes], batch_size)
    marks.append(time.perf_counter())
    return {"caption": (marks[1] - marks[0]) / PASSES, "score": (marks[2] - marks[1]) / PASSES}


def in_turns(scorers, memes, batch_size: int) -> list[list[float]]:
    """Seconds of the LLM stage over all memes, by scorer and pass; a first pass of each warms up and is not counted."""
    known = [(meme.text, meme.caption) for meme in memes]
    seconds: list[list[float]] = [[] for _ in scorers]
    for _ in range(PASSES + 1):
        for scorer, spent in zip(scorers, seconds, strict=True):
            begun = time.perf_counter()
            scored_again(scorer, known, batch_size)
            spent.append(time.perf_counter() - begun)
    return [spent[1:] for spent in seconds]


def scored_again(scorer, memes, batch_size: int) -> list[float]:
    """Our probabilities for texts and captions that are known."""
    from detector.meme import Meme

    known = [Meme(str(number), text=text, caption=caption) for number, (text, caption) in enumerate(memes)]
    for start in range(0, len(known), batch_size):
        scorer.score(known[start : start + batch_size])
    return [meme.probability for meme in known]


def report(settings, found: dict) -> None:
    ordinary, ours, count = found["ordinary"], found["ours"], settings.images
    print(
        f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, device {found['device']}, "
        f"LLM {settings.llm_size}, BLIP {settings.blip_size}, ordinary in {found['dtypes'][0]}, "
        f"ours in {found['dtypes'][1]}, {count} images, batch {settings.batch_size}\n"
    )
    rows = [
        ("caption", ordinary["seconds"]["caption"], ours["undisturbed"]["caption"]),
        ("score, both views", ordinary["seconds"]["score"], ours["undisturbed"]["score"]),
        ("score, ordinary in bfloat16", found["half"], ours["undisturbed"]["score"]),
        ("end to end", ordinary["total"], ours["total"]),
    ]
    print("| stage | ordinary, s/image | ours, s/image | times faster |\n| --- | --- | --- | --- |")
    print(f"| decode and read text | {ordinary['seconds']['read'] / count:.3f} | (overlapped) | |")
    for stage, slow, fast in rows:
        print(f"| {stage} | {slow / count:.3f} | {fast / count:.3f} | {slow / fast:.1f} |")
    print(
        f"\n{count / ours['total']:.2f} images/s; largest |dp| on the same texts and captions {found['dp']:.1e}; "
        f"same captions {found['same_captions']}/{count}; host memory at most "
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    )
    without, asked = found["in_turns"]
    more = [with_them / plain - 1 for plain, with_them in zip(without, asked, strict=True)]
    print(
        f"LLM stage, medians of {PASSES} passes in turns: {median(without) / count:.4f} s/image without categories, "
        f"{median(asked) / count:.4f} with {CATEGORIES}; a pass takes {median(more):+.1%} ({min(more):+.1%} to "
        f"{max(more):+.1%})"
    )
    if settings.peak_tflops:
        scorer = found["scorer"]
        tokens = sum(len(suffix) for meme in ours["memes"] for suffix in meme_suffixes(scorer, meme))
        flops = 2 * sum(parameter.numel() for parameter in scorer.chat_model.model.parameters()) * tokens
        share = flops / ours["score_seconds"] / settings.peak_tflops / 1e12
        print(f"scoring runs at {share:.0%} of {settings.peak_tflops:g} TFLOP/s")


def meme_suffixes(scorer, meme):
    from detector.prompt import view_windows

    views = view_windows(scorer.chat_model.prompt, meme.text, meme.caption, scorer.max_text_tokens).suffixes
    return [suffix for windows in views.values() for suffix in windows]


def start_up_seconds(folder: Path, path: str) -> float:
    """From starting predict.py on tiny models to its first line."""
    from random_models import save_random_captioner, save_random_llm

    save_random_llm(folder / "tiny-llm", "tiny", "float32")
    save_random_captioner(folder / "tiny-blip", "tiny")
    environment = {**os.environ, "LLM_DIR": str(folder / "tiny-llm"), "CAPTION_MODEL_DIR": str(folder / "tiny-blip")}
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "docker/predict.py")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    process.stdin.write(path.encode() + b"\n")
    process.stdin.flush()
    process.stdout.readline()
    seconds = time.perf_counter() - begun
    process.communicate()
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
