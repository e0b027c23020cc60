"""Model folders: written aside and renamed, with what belongs to them carried on from stage to stage."""

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

CARRIED_FILES = ("scoring.json", "training.json")
SAMPLED_BYTES = 4096
# Of these a caller is told in a sentence; any other OSError is a fault of ours and keeps its traceback.
WRITE_FAULTS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EIO,
}


@contextmanager
def finished_folder(output_dir: Path):
    """Yield a folder beside `output_dir` to write into; on success it takes the name, on failure it is removed.

    SystemExit where `output_dir` holds something already (nothing is ever replaced) or cannot be written to; enter it
    before the slow work, so that this comes first. What killed runs left aside is removed.
    """
    output_dir = Path(output_dir)
    with clear_write_faults(output_dir):
        if output_dir.exists() and not (output_dir.is_dir() and not any(output_dir.iterdir())):
            raise SystemExit(
                f"{script_name()}: OUTPUT_DIR={output_dir} is there already and not from this very run; "
                "choose another OUTPUT_DIR or delete it"
            )
        output_dir.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(output_dir)
        aside = output_dir.with_name(f".{output_dir.name}.{os.getpid()}.unfinished")
        aside.mkdir()
        try:
            yield aside
            aside.rename(output_dir)  # takes the place of an empty folder, too
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def remove_abandoned(output_dir: Path) -> None:
    """Remove unfinished folders for `output_dir` whose process is gone."""
    for folder in output_dir.parent.glob(f".{output_dir.name}.*.unfinished"):
        process = folder.name.removesuffix(".unfinished").rpartition(".")[2]
        if process.isdigit() and not is_running(int(process)):
            print(f"removed {folder}, which a killed run left", file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


@contextmanager
def clear_write_faults(output: Path):
    """Turn a full disk or a place that cannot be written to into SystemExit with a sentence that names it."""
    try:
        yield
    except Exception as fault:
        if not is_write_fault(fault):
            raise
        raise SystemExit(
            f"{script_name()}: {output} could not be written ({fault}); free some room or choose another "
            "OUTPUT_DIR, and start again"
        ) from fault


def check_writable(folder: Path) -> None:
    """Make the folder and write a byte there that vanishes; SystemExit where that fails: before the slow work."""
    with clear_write_faults(folder):
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            probe.write(b"0")


def is_write_fault(fault: Exception) -> bool:
    number = fault.errno if isinstance(fault, OSError) else None
    # safetensors raises a type of its own, with the number in its message; torch.save a RuntimeError without.
    if type(fault).__name__ == "SafetensorError" and (found := re.search(r"os error (\d+)", str(fault))):
        number = int(found[1])
    return number in WRITE_FAULTS or "PytorchStreamWriter failed" in str(fault) or "inline_container" in str(fault)


def script_name() -> str:
    return Path(sys.argv[0]).name


def check_model_folder(model_dir: Path) -> None:
    """SystemExit where a folder is no model of safetensors weights."""
    if not (Path(model_dir) / "config.json").exists():
        raise SystemExit(f"{script_name()}: MODEL_DIR={model_dir} has no config.json: it is no model folder")
    if not any(Path(model_dir).glob("*.safetensors")):
        raise SystemExit(
            f"{script_name()}: MODEL_DIR={model_dir} has no *.safetensors: convert its weights, or merge "
            "an adapter into its base with load_lora.py"
        )


def weights_fingerprint(model_dir: Path) -> str:
    """Hash of a model's weights: every safetensors file's name and header, and the first 4 kB of every tensor.

    Reads about a megabyte of a 14 GB model, and sees a change in any tensor that training moved as a whole.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(model_dir).glob("*.safetensors")):
        with path.open("rb") as weights:
            header = weights.read(int.from_bytes(weights.read(8), "little"))
            digest.update(path.name.encode() + header)
            for name, tensor in sorted(json.loads(header).items()):
                if name != "__metadata__":
                    start, end = tensor["data_offsets"]
                    weights.seek(8 + len(header) + start)
                    digest.update(weights.read(min(SAMPLED_BYTES, end - start)))
    return digest.hexdigest()[:16]


def carry_files(source_dir: Path, target_dir: Path) -> None:
    """Copy what the libraries' own saving leaves behind (scoring.json, training.json)."""
    for name in CARRIED_FILES:
        if (Path(source_dir) / name).exists():
            shutil.copyfile(Path(source_dir) / name, Path(target_dir) / name)


@contextmanager
def written_aside(path: Path):
    """Yield a path to write to; on success it is renamed to `path`, so that the file exists only when it is whole."""
    aside = Path(path).with_name(f".{Path(path).name}.unfinished")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, content: dict) -> None:
    with written_aside(path) as aside:
        aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def folder_megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
