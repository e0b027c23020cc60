"""Score memes by the million with Ray Data: predict.py's own steps and numbers, on one machine or a cluster.

Reads   INPUT: a folder, a glob, a text file of paths, or Parquet with a column of paths or of bytes, on a disk or at a
        URL (s3://, gs://, http://, ...); LLM_DIR: a guard model folder; CAPTION_MODEL_DIR: a BLIP folder.
Writes  OUTPUT: a folder or URL of Parquet files, a row a picture: path, probability, label, categories (a map of name
        and probability), probability_text, probability_image_text, caption, text, unseen_frames, unseen_text, error,
        milliseconds; OUTPUT.checkpoint: which paths are in them.

    INPUT=memes OUTPUT=predictions LLM_DIR=llm-gptq CAPTION_MODEL_DIR=captioner python docker/predict_with_ray.py

`path` is the key. Run again, after a crash or with more pictures, only what is not in OUTPUT is scored; files that a
crash left half written are removed first. An OUTPUT whose files lack columns, as older versions wrote them, is refused.
A picture that cannot be read is a row with its error and FALLBACK_PROBABILITY. A worker that dies is replaced, and its
rows are scored by another. Without RAY_ADDRESS a Ray of its own is started on this machine and ended again; Ray's usage
statistics are off.
"""

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from detector.device import go_offline
from detector.prompt import check_scoring
from detector.settings import DetectorSettings, UnusableSetting

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem
    from ray.data import Dataset

    from batch.inputs import PictureSource

# Ray Data's own steps (listing, leaving out what is done, cutting blocks, writing) need a little of a CPU; counted as
# CPUs beside the readers', they cannot wait for one that a reader keeps.
ENGINE_CPUS = 3
# With one CPU beside the readers' a resumed run waited for ever, with none any run did: the step that leaves out what
# is done takes a whole one.
FEWEST_ENGINE_CPUS = 2
LITTLE_CPU = {"num_cpus": 0.1}


class Settings(DetectorSettings):
    input: str = Field(description="folder, glob, text file of paths, or Parquet file or folder; a path or a URL")
    output: str = Field(description="folder or URL that gets the Parquet files; beside it OUTPUT.checkpoint")
    path_column: str | None = Field(
        None, description="Parquet's column of paths; when unset `path`, or the only column of text"
    )
    bytes_column: str | None = Field(
        None, description="Parquet's column of pictures' bytes; when unset the only binary column, if any"
    )
    ray_address: str | None = Field(None, description="address of a Ray cluster, or auto; when unset a local one")
    workers: int = Field(1, ge=1, le=10_000, description="processes that caption and score; each holds both models")
    num_gpus: float | None = Field(
        None, ge=0, le=16, description="GPUs of each worker, such as 0.5; when unset 1 where there is a GPU, else 0"
    )
    ocr_workers: int = Field(
        0, ge=0, le=100_000, description="processes that decode and read text, a CPU each; 0 is one for each CPU"
    )
    rows_a_file: int = Field(
        1000, ge=1, le=1_000_000, description="rows of a Parquet file; a crash loses what is in no file yet"
    )
    progress_seconds: float = Field(
        60, gt=0, description="seconds between two progress lines on stderr; a terminal gets Ray's progress bars"
    )

    @field_validator("num_gpus")
    @classmethod
    def _is_a_share_or_whole(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError("is neither a fraction of one GPU nor a whole number of them")
        return value


def main() -> int:
    settings = Settings.read(__doc__)
    go_offline()
    try:
        check_scoring(settings)
        source = open_input(settings)
        filesystem, folder = open_output(settings)
    except UnusableSetting as unusable:
        say(str(unusable))
        return 2
    return run(settings, source, filesystem, folder)


def open_input(settings: Settings) -> "PictureSource":
    from batch.inputs import UnusableSource, open_source

    try:
        return open_source(settings.input, settings.path_column, settings.bytes_column)
    except UnusableSource as unusable:
        raise UnusableSetting(f"INPUT={settings.input}: {unusable}") from unusable


def open_output(settings: Settings) -> "tuple[FileSystem, str]":
    """(file system, folder in it) of OUTPUT; raises UnusableSetting where rows lie there that ours cannot join."""
    from batch.outputs import OtherVersion, refuse_other_columns
    from batch.stores import UnusableUrl, locate

    try:
        filesystem, folder = locate(settings.output.rstrip("/"))
        refuse_other_columns(filesystem, folder)
    except (UnusableUrl, OtherVersion, OSError) as unusable:
        raise UnusableSetting(f"OUTPUT={settings.output}: {unusable}") from unusable
    return filesystem, folder


def run(settings: Settings, source: "PictureSource", filesystem: "FileSystem", folder: str) -> int:
    """Score all rows of `source` that are not in `folder` yet; returns the exit status."""
    import ray
    from ray.exceptions import RayError

    started = time.monotonic()
    connect(settings)
    try:
        rows = scored(settings, source, filesystem, folder)
        with nullcontext() if sys.stderr.isatty() else progress_lines(settings.progress_seconds, filesystem, folder):
            rows.write_parquet(
                folder, filesystem=filesystem, min_rows_per_file=settings.rows_a_file, ray_remote_args=LITTLE_CPU
            )
    except RayError as error:  # its last line is what was raised in the worker
        reason = str(error).strip().splitlines()[-1]
        say(f"stopped by {reason}\nWhat is in OUTPUT stays; run it again for the rest.")
        return 1
    finally:
        ray.shutdown()
    summary(settings.output, filesystem, folder, time.monotonic() - started)
    return 0


def connect(settings: Settings) -> None:
    """Join the cluster, or start one on this machine; Ray guards it by a token, kept in ~/.ray."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.pop("RAY_ADDRESS", None)  # Ray would read it, too, and has its own idea of an empty one
    import ray

    if settings.ray_address:
        ray.init(settings.ray_address, log_to_driver=False, logging_level=logging.WARNING)
        return
    ray.init(
        "local",
        num_cpus=(settings.ocr_workers or len(os.sched_getaffinity(0))) + ENGINE_CPUS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )


def scored(settings: Settings, source: "PictureSource", filesystem: "FileSystem", folder: str) -> "Dataset":
    """The Ray data set of PREDICTIONS: read --> (leave out what is done) --> ReaderActor --> ScorerActor."""
    import ray
    from ray.data import ActorPoolStrategy

    from batch.actors import BATCHES_IN_FLIGHT, ReaderActor, ScorerActor

    resources = ray.cluster_resources()
    num_gpus = settings.num_gpus if settings.num_gpus is not None else float(resources.get("GPU", 0) > 0)
    readers = count_readers(settings.ocr_workers, resources.get("CPU", 0))
    shared = settings.for_another_process()
    keep_what_is_done(filesystem, folder)
    rows = ray.data.read_datasource(source, override_num_blocks=len(source.parts), **LITTLE_CPU)
    return (
        rows.repartition(target_num_rows_per_block=settings.batch_size)
        .map_batches(
            ReaderActor,
            fn_constructor_args=(shared, os.getcwd()),
            batch_size=settings.batch_size,
            num_cpus=1,
            compute=ActorPoolStrategy(
                min_size=1, max_size=readers, initial_size=readers, max_tasks_in_flight_per_actor=BATCHES_IN_FLIGHT
            ),
        )
        .map_batches(
            ScorerActor,
            fn_constructor_args=(shared, "cuda:0" if num_gpus else "cpu"),
            batch_size=settings.batch_size,
            num_cpus=0,
            num_gpus=num_gpus,
            compute=ActorPoolStrategy(
                size=settings.workers, max_tasks_in_flight_per_actor=BATCHES_IN_FLIGHT, max_concurrent_calls_per_actor=2
            ),
        )
    )


def keep_what_is_done(filesystem: "FileSystem", folder: str) -> None:
    """Have Ray Data note beside OUTPUT which paths are in it, and leave them out of a later run."""
    from ray.data import DataContext
    from ray.data.checkpoint import CheckpointConfig

    context = DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context.checkpoint_config = CheckpointConfig(
        "path", f"{folder}.checkpoint", override_filesystem=filesystem, delete_checkpoint_on_success=False
    )


def count_readers(requested: int, cpus: float) -> int:
    """Processes that read pictures on a cluster of `cpus`: those requested, or as many as it has room for.

    Warns of more than that.
    """
    readers = requested or max(1, math.floor(cpus) - ENGINE_CPUS)
    if readers + FEWEST_ENGINE_CPUS > cpus:  # no error: a cluster may grow
        say(
            f"{readers} readers and Ray's own steps need {readers + FEWEST_ENGINE_CPUS} CPUs, the cluster has "
            f"{cpus:g}: unless it grows, the run may wait for ever. Lower OCR_WORKERS, or add CPUs."
        )
    return readers


@contextmanager
def progress_lines(every_seconds: float, filesystem: "FileSystem", folder: str) -> Iterator[None]:
    """While inside, a line on stderr now and then: rows that lie safe in OUTPUT, and how fast they get there."""
    from pyarrow import fs, parquet

    ended = threading.Event()

    def watch() -> None:
        rows: dict[str, int] = {}
        started, before = time.monotonic(), None
        while not ended.wait(0 if before is None else every_seconds):
            # Files of the checkpoint: small, and in place only when their rows are.
            for file in filesystem.get_file_info(fs.FileSelector(f"{folder}.checkpoint", allow_not_found=True)):
                if file.path not in rows and ".pending." not in file.path:
                    with filesystem.open_input_file(file.path) as opened:
                        rows[file.path] = parquet.read_metadata(opened).num_rows
            done = sum(rows.values())
            before = done if before is None else before
            rate = (done - before) / max(1e-9, time.monotonic() - started)
            say(f"{done:,} rows in OUTPUT, {rate:.1f} rows/s")

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def summary(output: str, filesystem: "FileSystem", folder: str, seconds: float) -> None:
    """Rows and errors of all that lies in OUTPUT, on stderr."""
    from batch.outputs import count_rows

    counts = count_rows(filesystem, folder)
    failed = ", ".join(f"{count:,} {reason}" for reason, count in counts.errors.most_common())
    unseen = "".join(f"; {count:,} with unseen {part}" for part, count in counts.unseen.items() if count)
    reasons = f" ({failed})" if failed else ""
    say(f"{counts.rows:,} rows in {output}, {counts.errors.total():,} failed{reasons}{unseen}; {seconds:.0f} s")


def say(message: str) -> None:
    print(f"predict_with_ray.py: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
