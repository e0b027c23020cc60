"""Score memes by the million with Ray Data: predict.py's own steps and numbers, on one machine or a cluster.

Reads   INPUT: a folder, a glob, a text file of paths, or Parquet with a column of paths or of bytes, on a disk or at a
        URL (s3://, gs://, http://, ...); LLM_DIR: a guard model folder; CAPTION_MODEL_DIR: a BLIP folder.
Writes  OUTPUT: a folder or URL of Parquet files, a row a picture: path, probability, label, probability_text,
        probability_image_text, caption, text, error, milliseconds; OUTPUT.checkpoint: which paths are in them.

    INPUT=memes OUTPUT=predictions LLM_DIR=llm-gptq CAPTION_MODEL_DIR=captioner python docker/predict_with_ray.py

`path` is the key. Run again, after a crash or with more pictures, only what is not in OUTPUT is scored; files that a
crash left half written are removed first. A picture that cannot be read is a row with its error and
FALLBACK_PROBABILITY. A worker that dies is replaced, and its rows are scored by another. Without RAY_ADDRESS a Ray of
its own is started on this machine and ended again; Ray's usage statistics are off.
"""

import logging
import math
import os
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

from pydantic import DirectoryPath, Field, field_validator
from pydantic_settings import BaseSettings

from predict import go_offline
from scoring_prompt import UnusableModel, read_scoring
from script_settings import ENVIRONMENT, read_settings

# Ray Data's own steps (listing, sifting out what is done, cutting blocks, writing) need a little of a CPU; counted as
# CPUs beside the readers', they cannot wait for one that a reader keeps.
ENGINE_CPUS = 3
# With one CPU beside the readers' a resumed run waited for ever, with none any run did: what sifts takes a whole one.
FEWEST_ENGINE_CPUS = 2
LITTLE_CPU = {"num_cpus": 0.1}


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    input: str = Field(description="folder, glob, text file of paths, or Parquet file or folder; a path or a URL")
    output: str = Field(description="folder or URL that gets the Parquet files; beside it OUTPUT.checkpoint")
    llm_dir: DirectoryPath = Field(description="guard model folder with scoring.json, at the same path on every node")
    caption_model_dir: DirectoryPath = Field(description="BLIP captioning model folder, at the same path on every node")
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
    batch_size: int = Field(
        32, ge=1, le=1024, description="pictures read, captioned and handed on together; also what a dead worker loses"
    )
    tokens_a_row: int = Field(
        4096, ge=64, le=131_072, description="tokens scored in one packed row: a batch's texts are cut into such rows"
    )
    rows_a_file: int = Field(
        1000, ge=1, le=1_000_000, description="rows of a Parquet file; a crash loses what is in no file yet"
    )
    dtype: str = Field(
        "auto",
        pattern="^(auto|float32|bfloat16|float16)$",
        description="precision: auto, float32, bfloat16 or float16; auto: 16-bit where the device multiplies in it",
    )
    gptq_backend: str = Field(
        "auto",
        pattern="^(auto|torch|triton|exllama_v2|marlin|machete)$",
        description="kernel of a GPTQ model: auto and torch compile nothing; triton needs a C compiler at run time, "
        "exllama_v2, marlin and machete need nvcc",
    )
    threshold: float | None = Field(None, ge=0, le=1, description="label 1 from here on; scoring.json's when unset")
    fallback_probability: float = Field(0.5, ge=0, le=1, description="of a picture that cannot be scored")
    tessdata_prefix: Path | None = Field(
        None, description="folder of tam.traineddata; when unset the usual folders (apt install tesseract-ocr-tam)"
    )
    max_megapixels: int = Field(120, ge=1, le=2000, description="larger images fall back instead of being decoded")
    max_text_tokens: int = Field(256, ge=8, le=8192, description="text beyond so many tokens a view is cut off")
    max_caption_tokens: int = Field(20, ge=1, le=100, description="longest caption, tokens")
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
    settings = read_settings(Settings, __doc__)
    go_offline()
    try:
        read_scoring(settings.llm_dir)
    except UnusableModel as unusable:
        print(f"predict_with_ray.py: LLM_DIR={settings.llm_dir}: {unusable}", file=sys.stderr)
        return 2
    from picture_source import UnusableInput, open_source
    from storage import UnusableUrl, locate

    try:
        source = open_source(settings.input, settings.path_column, settings.bytes_column)
        filesystem, folder = locate(settings.output.rstrip("/"))
    except UnusableInput as unusable:
        print(f"predict_with_ray.py: INPUT={settings.input}: {unusable}", file=sys.stderr)
        return 2
    except (UnusableUrl, OSError) as unusable:
        print(f"predict_with_ray.py: OUTPUT={settings.output}: {unusable}", file=sys.stderr)
        return 2
    return run(settings, source, filesystem, folder)


def run(settings: Settings, source, filesystem, folder: str) -> int:
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
        print(
            f"predict_with_ray.py: stopped by {str(error).strip().splitlines()[-1]}\nWhat is in OUTPUT stays; run it "
            "again for the rest.",
            file=sys.stderr,
            flush=True,
        )
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


def scored(settings: Settings, source, filesystem, folder: str):
    """The Ray data set of PREDICTIONS: read --> (sift out what is done) --> PictureReader --> MemeScorer."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from ray.data.checkpoint import CheckpointConfig

    from ray_stages import BATCHES_IN_FLIGHT, MemeScorer, PictureReader

    resources = ray.cluster_resources()
    num_gpus = settings.num_gpus if settings.num_gpus is not None else float(resources.get("GPU", 0) > 0)
    readers = count_readers(settings.ocr_workers, resources.get("CPU", 0))
    shared = SimpleNamespace(
        **{
            **settings.model_dump(),
            "num_gpus": num_gpus,
            "folder": os.getcwd(),
            "llm_dir": settings.llm_dir.resolve(),
            "caption_model_dir": settings.caption_model_dir.resolve(),
        }
    )
    context = DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    context.checkpoint_config = CheckpointConfig(
        "path", f"{folder}.checkpoint", override_filesystem=filesystem, delete_checkpoint_on_success=False
    )
    rows = ray.data.read_datasource(source, override_num_blocks=len(source.parts), **LITTLE_CPU)
    return (
        rows.repartition(target_num_rows_per_block=settings.batch_size)
        .map_batches(
            PictureReader,
            fn_constructor_args=(shared,),
            batch_size=settings.batch_size,
            num_cpus=1,
            compute=ActorPoolStrategy(
                min_size=1, max_size=readers, initial_size=readers, max_tasks_in_flight_per_actor=BATCHES_IN_FLIGHT
            ),
        )
        .map_batches(
            MemeScorer,
            fn_constructor_args=(shared,),
            batch_size=settings.batch_size,
            num_cpus=0,
            num_gpus=num_gpus,
            compute=ActorPoolStrategy(
                size=settings.workers, max_tasks_in_flight_per_actor=BATCHES_IN_FLIGHT, max_concurrent_calls_per_actor=2
            ),
        )
    )


def count_readers(asked: int, cpus: float) -> int:
    """Processes that read pictures on a cluster of `cpus`, `asked` or as many as it has room for; warns if too many."""
    readers = asked or max(1, math.floor(cpus) - ENGINE_CPUS)
    if readers + FEWEST_ENGINE_CPUS > cpus:  # no error: a cluster may grow
        print(
            f"predict_with_ray.py: {readers} readers and Ray's own steps need {readers + FEWEST_ENGINE_CPUS} CPUs, "
            f"the cluster has {cpus:g}: unless it grows, the run may wait for ever. Lower OCR_WORKERS, or add CPUs.",
            file=sys.stderr,
            flush=True,
        )
    return readers


@contextmanager
def progress_lines(every_seconds: float, filesystem, folder: str):
    """While inside, a line on stderr now and then: rows that lie safe in OUTPUT, and how fast they get there."""
    from pyarrow import fs, parquet

    ended = threading.Event()

    def watch() -> None:
        rows, started, before = {}, time.monotonic(), None
        while not ended.wait(0 if before is None else every_seconds):
            # Files of the checkpoint: small, and in place only when their rows are.
            for file in filesystem.get_file_info(fs.FileSelector(f"{folder}.checkpoint", allow_not_found=True)):
                if file.path not in rows and ".pending." not in file.path:
                    with filesystem.open_input_file(file.path) as opened:
                        rows[file.path] = parquet.read_metadata(opened).num_rows
            done = sum(rows.values())
            before = done if before is None else before
            rate = (done - before) / max(1e-9, time.monotonic() - started)
            print(f"predict_with_ray.py: {done:,} rows in OUTPUT, {rate:.1f} rows/s", file=sys.stderr, flush=True)

    thread = threading.Thread(target=watch, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def summary(output: str, filesystem, folder: str, seconds: float) -> None:
    """Rows and errors of all that lies in OUTPUT, on stderr."""
    from pyarrow import fs, parquet

    def errors_of(path: str) -> list[str | None]:
        # Not by pyarrow's dataset: its threads outlive the scan, and with a file system of fsspec's abort at exit.
        with filesystem.open_input_file(path) as file:
            return parquet.ParquetFile(file).read(["error"], use_threads=False)["error"].to_pylist()

    files = filesystem.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    with ThreadPoolExecutor(16) as pool:
        found = pool.map(errors_of, [file.path for file in files if file.extension == "parquet"])
        errors = sum(map(Counter, found), Counter())
    failed = ", ".join(f"{count:,} {reason}" for reason, count in errors.most_common() if reason)
    print(
        f"predict_with_ray.py: {errors.total():,} rows in {output}, {errors.total() - errors[None]:,} failed"
        f"{f' ({failed})' if failed else ''}; {seconds:.0f} s",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
