"""The two stages of predict_with_ray.py, each a class whose objects live in worker processes.

    ReaderActor (a CPU each): the detector's Reader --> ScorerActor (a share of a GPU each): the detector's Scorer

Between them travels what the captioner takes (1.7 MB at 384 pixels a side), never a whole picture. Whatever a picture
does to one of them ends as an error in its row. Even if it kills its reader: Ray starts another, which has a process
apart read each picture of the batches that may have done it.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from ray.exceptions import RayActorError

from batch.outputs import PREDICTIONS, READING
from batch.stores import URL, fetch, fetch_ahead
from detector.device import compile_nothing, go_offline, keep_freed_memory
from detector.image_decoding import UnreadableImage
from detector.meme import Meme, evidence_of
from detector.reader import load_reader
from detector.settings import DetectorSettings

# Batches that Ray hands a reader ahead: any of them may be what killed the one before it.
BATCHES_IN_FLIGHT = 2
# Enough to hide a store that takes no longer to answer than four pictures take to be read.
FETCHED_AHEAD = 4


class ReaderActor:
    """Reads images for ScorerActor; `folder` is where the user's relative paths start."""

    def __init__(self, settings: DetectorSettings, folder: str):
        go_offline()
        self.settings, self.folder = settings, folder
        self.reader = load_reader(settings)
        self.fetchers = ThreadPoolExecutor(FETCHED_AHEAD, thread_name_prefix="fetch")
        self.apart: Any = None  # the handle of a ReaderApart
        context = ray.get_runtime_context()
        self.suspects = BATCHES_IN_FLIGHT if context.get_actor_id() and context.was_current_actor_reconstructed else 0

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Columns path, content in; what meme_of takes out: path, pixels, seen (whether `pixels` is a picture), ..."""
        read = self._read_apart if self.suspects else self.read
        rows = zip(batch["path"], batch["content"], strict=True)
        memes = [read(*row) for row in fetch_ahead(rows, self.fetchers, FETCHED_AHEAD)]
        self.suspects = max(0, self.suspects - 1)
        self.apart = self.apart if self.suspects else None  # without a handle to it, Ray ends it
        nothing = np.zeros(self.reader.pixels_shape, dtype=np.float32)
        return {
            "path": batch["path"],
            "pixels": np.stack([nothing if meme.pixels is None else meme.pixels.numpy() for meme in memes]),
            "seen": np.array([meme.pixels is not None for meme in memes]),
            "text": np.array([meme.text for meme in memes], dtype=object),
            "unseen_frames": np.array([meme.unseen_frames for meme in memes]),
            "error": np.array([meme.error or "" for meme in memes], dtype=object),
            **{f"{stage}_ms": np.array([meme.milliseconds.get(stage, np.nan) for meme in memes]) for stage in READING},
        }

    def read(self, path: str, content: bytes | None) -> Meme:
        """The picture at a path or a URL, or of these bytes."""
        if content is None and URL.match(path):
            try:
                content = fetch(path)
            except UnreadableImage as unreadable:
                return Meme(path, error=unreadable.reason)
        # A worker's own folder is not the user's; an empty path must stay one.
        return self.reader.read(path and os.path.join(self.folder, path), content)

    def _read_apart(self, path: str, content: bytes | None) -> Meme:
        self.apart = self.apart or ReaderApart.remote(self.settings, self.folder)
        try:
            return ray.get(self.apart.read.remote(path, content))
        except RayActorError:
            self.apart = None
            return Meme(path, error="reader_died")


# In the place of the reader that waits for it, hence no CPU. A picture that it dies of had its second try here.
ReaderApart = ray.remote(num_cpus=0)(ReaderActor)


class ScorerActor:
    """Captions and scores what ReaderActor read; holds both models, on `device`."""

    def __init__(self, settings: DetectorSettings, device: str):
        go_offline()
        compile_nothing()
        keep_freed_memory()
        from detector.scorer import load_scorer

        self.scorer = load_scorer(settings, device, costs={})

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        """What ReaderActor gave in, PREDICTIONS out."""
        memes = [meme_of({name: column[row] for name, column in batch.items()}) for row in range(len(batch["path"]))]
        self.scorer.score(memes)
        refuse_sick_device(memes)
        rows = [asdict(evidence_of(meme, self.scorer.threshold)) for meme in memes]
        return pa.Table.from_pylist(rows, schema=PREDICTIONS)


class SickDevice(Exception):
    """A worker's device fails whatever it is given: rows are not to be written with its errors."""


def refuse_sick_device(memes: list[Meme]) -> None:
    """Raises SickDevice where several pictures were read well and none could be captioned, or none scored."""
    seen = [meme for meme in memes if meme.pixels is not None]
    read = [meme for meme in memes if meme.pixels is not None or meme.text.strip()]
    blind = len(seen) > 1 and all(meme.caption is None for meme in seen)
    if blind or (len(read) > 1 and not any(meme.views for meme in read)):
        raise SickDevice(f"none of {len(read)} pictures could be captioned or scored: look at the GPU and its memory")


def meme_of(row: dict[str, Any]) -> Meme:
    """A row of what ReaderActor gave, as its Reader made it; the lines of text stay behind, nothing needs them."""
    import torch

    # Copied: what lies in Ray's object store may not be written to, and torch warns of that.
    pixels = torch.tensor(row["pixels"]) if row["seen"] else None
    spent = {stage: float(row[f"{stage}_ms"]) for stage in READING}
    return Meme(
        row["path"],
        pixels=pixels,
        text=row["text"],
        unseen_frames=float(row["unseen_frames"]),
        error=row["error"] or None,
        milliseconds={stage: took for stage, took in spent.items() if not np.isnan(took)},
    )
