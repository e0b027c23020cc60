"""Measure predict.py's way of scoring memes against the ordinary way, on the same weights and pictures, in one run.

The ordinary way takes one image at a time: OCR, a caption by `generate`, then both prompts in full, each by
`generate(max_new_tokens=10)`, in the precision of the folders (float32 on a CPU; the scoring is timed in bfloat16 too).
With random weights no answer ends early: ten tokens are ten. Ours overlaps OCR with the device, captions in batches and
scores both views of a batch in one row behind the cached policy, in predict.py's precision. The OCR is the same.

Reads   IMAGES_DIR (any pictures; drawn memes if unset). Models of LLM_SIZE and BLIP_SIZE are made with random weights.
Writes  stdout: Markdown tables: seconds an image by stage and end to end, the ratios, and how far the probabilities
        differ; the start-up of predict.py to its first line.

    python benchmarks/bench_predict.py                          # BLIP base and a 100M LLM on the CPU
    LLM_SIZE=7b IMAGES=256 python benchmarks/bench_predict.py   # on a GPU
"""

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docker"))

from pydantic import DirectoryPath, Field  # noqa: E402
from pydantic_settings import BaseSettings  # noqa: E402

from predict import keep_freed_memory  # noqa: E402
from script_settings import ENVIRONMENT, read_settings  # noqa: E402


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    images_dir: DirectoryPath | None = Field(None, description="pictures to score; drawn memes when unset")
    images: int = Field(16, ge=2, description="how many pictures")
    batch_size: int = Field(16, ge=1, description="predict.py's BATCH_SIZE")
    llm_size: str = Field("100m", pattern="^(tiny|100m|7b)$", description="tiny, 100m or 7b")
    blip_size: str = Field("base", pattern="^(tiny|base)$", description="tiny or base")
    dtype: str = Field("auto", description="predict.py's DTYPE (the ordinary way captions in float32)")
    ocr_workers: int = Field(len(os.sched_getaffinity(0)), ge=1, description="predict.py's OCR_WORKERS")
    start_up: bool = Field(True, description="0: do not time predict.py's start-up on tiny models")
    peak_tflops: float | None = Field(None, gt=0, description="the device's peak in the precision used, for its share")


def main() -> int:
    settings = read_settings(Settings, __doc__)
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
    return (found * (1 + settings.images // len(found)))[:settings.images]


def compare(settings, folder: Path, paths: list[str]) -> dict:
    """Both ways, warmed up, on the same models and pictures."""
    from captions import load_captioner
    from guard_scorer import load_scorer
    from ocr import MemeReader
    from precision import pick_device, pick_dtypes, speed_up_float32
    from random_models import save_random_captioner, save_random_llm

    device = pick_device("auto")
    caption_dtype, llm_dtype = pick_dtypes(device, settings.dtype)
    save_random_llm(folder / "llm", settings.llm_size, llm_dtype)
    save_random_captioner(folder / "blip", settings.blip_size)
    keep_freed_memory()
    speed_up_float32(device, "float32")
    exact = settings.dtype == "float32"
    scorer = load_scorer(folder / "llm", device, llm_dtype, 2048)
    plain_dtype = "float32" if device == "cpu" else caption_dtype  # what from_pretrained gives
    plain_captioner = load_captioner(folder / "blip", device, plain_dtype, 20)
    captioner = load_captioner(folder / "blip", device, caption_dtype, 20)
    reader = MemeReader(threads=settings.ocr_workers, exact=exact)
    ordinary = ordinary_way(plain_captioner, plain_llm(folder, device, llm_dtype), scorer.prompt, reader, paths)
    half = in_half(plain_llm(folder, device, "bfloat16"), scorer.prompt, ordinary["memes"])
    speed_up_float32(device, settings.dtype)
    ours = our_way(settings, captioner, scorer, MemeReader(workers=settings.ocr_workers, exact=exact), paths)
    again = scored_again(scorer, ordinary["memes"], settings.batch_size)
    return {"ordinary": ordinary, "half": half, "ours": ours, "device": device, "dtypes": (caption_dtype, llm_dtype),
            "dp": max(abs(p - q) for p, q in zip(ordinary["probabilities"], again, strict=True)),
            "same_captions": sum(first[1] == second.caption for first, second in
                                 zip(ordinary["memes"], ours["memes"], strict=True)), "scorer": scorer}


def plain_llm(folder: Path, device: str, dtype: str):
    """The chat model as anybody loads it."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder / "llm", dtype=getattr(torch, dtype)).to(device).eval()


def in_half(llm, prompt, memes) -> float:
    """Seconds to score all memes by `generate` in bfloat16."""
    generated_probability(llm, prompt, *memes[0])
    begun = time.perf_counter()
    for text, caption in memes:
        generated_probability(llm, prompt, text, caption)
    return time.perf_counter() - begun


def ordinary_way(captioner, llm, prompt, reader, paths: list[str]) -> dict:
    """One image at a time; seconds by stage, probabilities, and (text, caption) of each image."""
    from image_decoding import decode_image
    from ocr import meme_text

    seconds = dict.fromkeys(("read", "caption", "score"), 0.0)
    memes, probabilities = [], []
    start = None
    for path in [paths[0], *paths]:  # the first warms up and is not counted
        marks = [time.perf_counter()]
        text = meme_text(reader.read(picture := decode_image(path)))
        marks.append(time.perf_counter())
        inputs = captioner.processor(images=picture, return_tensors="pt").to(captioner.model.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(captioner.model.dtype)
        tokens = captioner.model.generate(**inputs, max_new_tokens=20, min_new_tokens=20)
        caption = captioner.processor.decode(tokens[0], skip_special_tokens=True).strip()
        marks.append(time.perf_counter())
        probability = generated_probability(llm, prompt, text, caption)
        marks.append(time.perf_counter())
        if start is None:
            start = marks[-1]
            continue
        for stage, begun, ended in zip(seconds, marks[:-1], marks[1:], strict=True):
            seconds[stage] += ended - begun
        memes.append((text, caption))
        probabilities.append(probability)
    return {"seconds": seconds, "total": time.perf_counter() - start, "memes": memes, "probabilities": probabilities}


def generated_probability(llm, prompt, text: str, caption: str) -> float:
    """Mean over the views of P(offensive) from the first of ten generated tokens, the policy read anew each time."""
    import torch

    from scoring_prompt import view_suffixes

    found = []
    for suffix in view_suffixes(prompt, text, caption, 256).values():
        tokens = torch.tensor([prompt.prefix_ids + suffix], device=llm.device)
        output = llm.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=10, min_new_tokens=10, do_sample=False,
            return_dict_in_generate=True, output_logits=True, pad_token_id=0)
        labels = output.logits[0][0, list(prompt.label_token_ids)].float()
        found.append(torch.softmax(labels / prompt.temperature, dim=-1)[1].item())
    return sum(found) / len(found)


def our_way(settings, captioner, scorer, reader, paths: list[str]) -> dict:
    """predict.py's own pipeline; seconds of the device's stages and end to end."""
    from image_decoding import decode_image
    from meme_pipeline import Intake, Meme, caption_batch, prepare, score_batch
    from ocr import meme_text
    from scoring_prompt import view_suffixes

    work = partial(prepare, decode=decode_image, pixels=captioner.pixels, pixels_ready=lambda: True, read=reader.read)
    work(warm := Meme(paths[0]))
    captioner.captions([warm.picture.result()] * 2)
    scored_again(scorer, [("warm up", "a cat")] * settings.batch_size, settings.batch_size)
    seconds = {"caption": 0.0, "score": 0.0}
    done, start = [], time.perf_counter()
    intake = Intake(iter(paths), work, settings.ocr_workers, 4 * settings.batch_size)
    for batch in intake.batches(settings.batch_size, 0.5):
        for meme in batch:
            meme.picture.result()
        begun = time.perf_counter()
        caption_batch(batch, captioner.captions)
        seconds["caption"] += time.perf_counter() - begun
        for meme in batch:
            meme.text = meme_text(meme.reading.result())
        begun = time.perf_counter()
        score_batch(batch, lambda text, caption: view_suffixes(scorer.prompt, text, caption, 256),
                    scorer.probabilities, 0.5)
        seconds["score"] += time.perf_counter() - begun
        done += batch
    total = time.perf_counter() - start
    intake.close()
    return {"seconds": seconds, "total": total, "memes": done,
            "undisturbed": undisturbed(captioner, scorer, done, settings.batch_size)}


def undisturbed(captioner, scorer, memes, batch_size: int) -> dict[str, float]:
    """Seconds of our two device stages over all pictures while no OCR takes the processor."""
    marks = [time.perf_counter()]
    for start in range(0, len(memes), batch_size):
        captioner.captions([meme.picture.result() for meme in memes[start:start + batch_size]])
    marks.append(time.perf_counter())
    scored_again(scorer, [(meme.text, meme.caption) for meme in memes], batch_size)
    marks.append(time.perf_counter())
    return {"caption": marks[1] - marks[0], "score": marks[2] - marks[1]}


def scored_again(scorer, memes, batch_size: int) -> list[float]:
    """Our probabilities for the ordinary way's texts and captions."""
    from scoring_prompt import view_suffixes

    found = []
    for start in range(0, len(memes), batch_size):
        views = [view_suffixes(scorer.prompt, text, caption, 256) for text, caption in memes[start:start + batch_size]]
        flat = iter(scorer.probabilities([suffix for view in views for suffix in view.values()]))
        found += [sum(next(flat) for _ in view) / len(view) for view in views]
    return found


def report(settings, found: dict) -> None:
    ordinary, ours, count = found["ordinary"], found["ours"], settings.images
    print(f"{platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, device {found['device']}, "
          f"captions {found['dtypes'][0]}, LLM {settings.llm_size} {found['dtypes'][1]}, BLIP {settings.blip_size}, "
          f"{count} images, batch {settings.batch_size}\n")
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
    print(f"\n{count / ours['total']:.2f} images/s; largest |dp| on the same texts and captions {found['dp']:.1e}; "
          f"same captions {found['same_captions']}/{count}; host memory at most "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")
    if settings.peak_tflops:
        scorer = found["scorer"]
        tokens = sum(len(suffix) for meme in ours["memes"] for suffix in meme_suffixes(scorer, meme))
        flops = 2 * sum(parameter.numel() for parameter in scorer.model.parameters()) * tokens
        share = flops / ours["seconds"]["score"] / settings.peak_tflops / 1e12
        print(f"scoring runs at {share:.0%} of {settings.peak_tflops:g} TFLOP/s")


def meme_suffixes(scorer, meme):
    from scoring_prompt import view_suffixes

    return view_suffixes(scorer.prompt, meme.text, meme.caption, 256).values()


def start_up_seconds(folder: Path, path: str) -> float:
    """From starting predict.py on tiny models to its first line."""
    from random_models import save_random_captioner, save_random_llm

    save_random_llm(folder / "tiny-llm", "tiny", "float32")
    save_random_captioner(folder / "tiny-blip", "tiny")
    environment = {**os.environ, "LLM_DIR": str(folder / "tiny-llm"), "CAPTION_MODEL_DIR": str(folder / "tiny-blip")}
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, str(ROOT / "docker/predict.py")], env=environment,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdin.write(path.encode() + b"\n")
    process.stdin.flush()
    process.stdout.readline()
    seconds = time.perf_counter() - begun
    process.communicate()
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
