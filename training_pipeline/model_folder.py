"""Model folders: written aside and renamed, with what belongs to them carried on from stage to stage."""

import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

CARRIED_FILES = ("scoring.json", "training.json")


@contextmanager
def finished_folder(output_dir: Path):
    """Yield a folder beside `output_dir` to write into; on success it takes the name, on failure it is removed.

    An older folder of that name is replaced as a whole, so that a reader never sees half of each.
    """
    output_dir = Path(output_dir)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    aside = output_dir.with_name(f".{output_dir.name}.{os.getpid()}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        if output_dir.exists():
            former = output_dir.with_name(f".{output_dir.name}.{os.getpid()}.former")
            output_dir.rename(former)
            aside.rename(output_dir)
            shutil.rmtree(former)
        else:
            aside.rename(output_dir)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def weights_fingerprint(model_dir: Path) -> str:
    """Hash of a model's weights: every safetensors file's name, size, header and last megabyte.

    Reads a few megabytes of a 14 GB model; weights trained anew differ in their last tensors.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(model_dir).glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}".encode())
        with path.open("rb") as weights:
            header_length = int.from_bytes(weights.read(8), "little")
            digest.update(weights.read(header_length))
            weights.seek(max(0, size - 2**20))
            digest.update(weights.read())
    return digest.hexdigest()[:16]


def carry_files(source_dir: Path, target_dir: Path) -> None:
    """Copy what the libraries' own saving leaves behind (scoring.json, training.json)."""
    for name in CARRIED_FILES:
        if (Path(source_dir) / name).exists():
            shutil.copyfile(Path(source_dir) / name, Path(target_dir) / name)


def write_json(path: Path, content: dict) -> None:
    """Write aside and rename, so that the file exists only when it is whole."""
    aside = Path(path).with_name(f".{Path(path).name}.unfinished")
    aside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(aside, path)


def folder_megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
