"""The two stages of predict_with_ray.py, each a class whose objects live in worker processes.

    PictureReader (a CPU each): decode, the captioner's input, the text --> MemeScorer (a share of a GPU each): the rest

Between them travels what the captioner takes (1.7 MB at 384 pixels a side), never a whole picture. Both are the steps
of predict.py, and whatever a picture does to one of them ends as an error in its row. Even if it kills its reader: Ray
starts another, which has a process apart read each picture of the batches that may have done it.
"""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import RayActorError

from captions import load_captioner, load_image_processor, model_pixels
from gptq_kernel import compile_nothing
from image_decoding import decode_image
from meme_pipeline import Meme, Stopwatch, caption_batch, prepare, score_batch
from ocr import MemeReader, meme_text
from predict import go_offline, keep_freed_memory
from scoring_prompt import view_suffixes
from scoring_session import evidence, quiet_libraries
from storage import URL, fetch_ahead, open_remote_file

# Batches that Ray hands a reader ahead: any of them may be what killed the one before it.
BATCHES_IN_FLIGHT = 2
# Enough to hide a store that takes no longer to answer than four pictures take to be read.
FETCHED_AHEAD = 4
STAGES = ("decode", "pixels", "ocr", "caption", "score")
PREDICTIONS = pa.schema(
    [
        ("path", pa.string()),
        ("probability", pa.float64()),
        ("label", pa.int8()),
        ("probability_text", pa.float64()),
        ("probability_image_text", pa.float64()),
        ("caption", pa.string()),
        ("text", pa.string()),
        ("error", pa.string()),
        ("milliseconds", pa.struct([(stage, pa.float64()) for stage in STAGES])),
    ]
)


class PictureReader:
    """Decodes pictures and reads their text; `settings` are those of predict_with_ray.py, paths absolute."""

    def __init__(self, settings: SimpleNamespace):
        go_offline()
        quiet_libraries()
        self.settings = settings
        self.reader = MemeReader(settings.tessdata_prefix, exact=settings.dtype == "float32")
        self.image_processor = load_image_processor(settings.caption_model_dir)
        size = self.image_processor.size
        self.nothing = np.zeros((3, size["height"], size["width"]), dtype=np.float32)
        self.fetchers = ThreadPoolExecutor(FETCHED_AHEAD, thread_name_prefix="fetch")
        self.apart = None
        context = ray.get_runtime_context()
        self.suspects = BATCHES_IN_FLIGHT if context.get_actor_id() and context.was_current_actor_reconstructed else 0

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Columns path, content in; path, pixels, seen (whether `pixels` is a picture), text, error, <stage>_ms out."""
        read = self._read_apart if self.suspects else self.read
        rows = zip(batch["path"], batch["content"], strict=True)
        rows = [read(*row) for row in fetch_ahead(rows, self.fetchers, FETCHED_AHEAD)]
        self.suspects = max(0, self.suspects - 1)
        self.apart = self.apart if self.suspects else None  # without a handle to it, Ray ends it
        return {
            "path": batch["path"],
            "pixels": np.stack([self.nothing if row["pixels"] is None else row["pixels"] for row in rows]),
            "seen": np.array([row["pixels"] is not None for row in rows]),
            **{name: np.array([row[name] for row in rows], dtype=object) for name in ("text", "error")},
            **{
                f"{stage}_ms": np.array([row["milliseconds"].get(stage, np.nan) for row in rows])
                for stage in STAGES[:3]
            },
        }

    def read(self, path: str, content: bytes | None) -> dict:
        """pixels (float32 [3, height, width], or None), text, error (empty for none), milliseconds of one picture."""
        meme = Meme(path)
        prepare(
            meme,
            decode=partial(self._decode, content=content),
            pixels_ready=lambda: True,
            pixels=partial(model_pixels, self.image_processor),
            read=self.reader.read,
        )
        pixels = meme.picture.result()
        return {
            "pixels": None if pixels is None else pixels.numpy(),
            "text": meme_text(meme.reading.result()),
            "error": meme.error or "",
            "milliseconds": meme.milliseconds,
        }

    def _read_apart(self, path: str, content: bytes | None) -> dict:
        self.apart = self.apart or ReaderApart.remote(self.settings)
        try:
            return ray.get(self.apart.read.remote(path, content))
        except RayActorError:
            self.apart = None
            return {"pixels": None, "text": "", "error": "reader_died", "milliseconds": {}}

    def _decode(self, path: str, content: bytes | None):
        max_pixels = self.settings.max_megapixels * 1_000_000
        if content is not None:
            return decode_image(path, max_pixels, lambda _: io.BytesIO(content))
        if URL.match(path):
            return decode_image(path, max_pixels, open_remote_file)
        # A worker's own folder is not the user's; an empty path must stay one.
        return decode_image(path and os.path.join(self.settings.folder, path), max_pixels)


# In the place of the reader that waits for it, hence no CPU. A picture that it dies of had its second try here.
ReaderApart = ray.remote(num_cpus=0)(PictureReader)


class MemeScorer:
    """Captions and scores what PictureReader read; holds both models, on a GPU where Ray gave it a share of one."""

    def __init__(self, settings: SimpleNamespace):
        go_offline()
        compile_nothing()
        keep_freed_memory()
        quiet_libraries()
        from guard_scorer import load_scorer
        from precision import pick_dtype

        device = "cuda:0" if settings.num_gpus else "cpu"
        dtype = pick_dtype(device, settings.dtype)
        self.captioner = load_captioner(settings.caption_model_dir, device, dtype, settings.max_caption_tokens)
        self.scorer = load_scorer(settings.llm_dir, device, dtype, settings.tokens_a_row, settings.gptq_backend)
        self.suffixes = partial(view_suffixes, self.scorer.prompt, max_tokens=settings.max_text_tokens)
        self.fallback = settings.fallback_probability
        asked = settings.threshold
        self.threshold = self.scorer.prompt.threshold if asked is None else asked

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """What PictureReader gave in, PREDICTIONS out."""
        memes = [_meme({name: column[row] for name, column in batch.items()}) for row in range(len(batch["path"]))]
        with Stopwatch(shared := {}, "caption"):
            caption_batch(memes, self.captioner.captions)
        with Stopwatch(shared, "score"):
            score_batch(memes, self.suffixes, self.scorer.probabilities, self.fallback)
        refuse_sick_device(memes)
        for meme in memes:
            meme.milliseconds.update({stage: round(took / len(memes), 1) for stage, took in shared.items()})
        return pa.Table.from_pylist([evidence(meme, self.threshold) for meme in memes], schema=PREDICTIONS)


class SickDevice(Exception):
    """A worker's device fails whatever it is given: rows are not to be written with its errors."""


def refuse_sick_device(memes: list[Meme]) -> None:
    """Raises SickDevice where several pictures were read well and none could be captioned, or none scored."""
    seen = [meme for meme in memes if meme.picture.result() is not None]
    if len(seen) > 1 and (all(meme.caption is None for meme in seen) or not any(meme.views for meme in seen)):
        raise SickDevice(f"none of {len(seen)} pictures could be captioned or scored: look at the GPU and its memory")


def _meme(row: dict) -> Meme:
    import torch

    meme = Meme(row["path"], error=row["error"] or None, text=row["text"])
    # Copied: what lies in Ray's object store may not be written to, and torch warns of that.
    meme.picture.set_result(torch.tensor(row["pixels"]) if row["seen"] else None)
    meme.reading.set_result([])
    spent = {stage: float(row[f"{stage}_ms"]) for stage in STAGES[:3]}
    meme.milliseconds = {stage: took for stage, took in spent.items() if not np.isnan(took)}
    return meme
