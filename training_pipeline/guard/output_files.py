"""What a script leaves behind: results alone on stdout, files and folders that are whole or absent."""

import errno
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

# Of these a caller is told in a sentence; any other OSError is a bug of ours and keeps its traceback.
WRITE_ERRORS = {
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


def claim_stdout() -> TextIO:
    """The real stdout, for results alone; from now on `sys.stdout` and file descriptor 1 are stderr.

    What libraries print, native code included, goes there. Call it before the heavy imports: gptqmodel and Trainer
    print as soon as they are loaded.
    """
    results = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return results


def script_name() -> str:
    return Path(sys.argv[0]).name


@contextmanager
def finished_folder(output_dir: Path) -> Iterator[Path]:
    """Yield a folder beside `output_dir` to write into; on success it takes the name, on failure it is removed.

    SystemExit where `output_dir` holds something already (nothing is ever replaced) or cannot be written to; enter it
    before the slow work, so that this comes first. What killed runs left behind is removed.
    """
    with explained_write_errors(output_dir):
        if output_dir.exists() and not (output_dir.is_dir() and not any(output_dir.iterdir())):
            raise SystemExit(
                f"{script_name()}: OUTPUT_DIR={output_dir} is there already and not from this very run; "
                "choose another OUTPUT_DIR or delete it"
            )
        output_dir.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(output_dir)
        unfinished = output_dir.with_name(f".{output_dir.name}.{os.getpid()}.unfinished")
        unfinished.mkdir()
        try:
            yield unfinished
            unfinished.rename(output_dir)  # takes the place of an empty folder, too
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


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
def explained_write_errors(output: Path) -> Iterator[None]:
    """Turn a full disk or a place that cannot be written to into SystemExit with a sentence that names it."""
    try:
        yield
    except Exception as error:
        if not is_write_error(error):
            raise
        raise SystemExit(
            f"{script_name()}: {output} could not be written ({error}); free some room or choose another "
            "OUTPUT_DIR, and start again"
        ) from error


def is_write_error(error: Exception) -> bool:
    number = error.errno if isinstance(error, OSError) else None
    # safetensors raises a type of its own, with the number in its message; torch.save a RuntimeError without.
    if type(error).__name__ == "SafetensorError" and (found := re.search(r"os error (\d+)", str(error))):
        number = int(found[1])
    return number in WRITE_ERRORS or "PytorchStreamWriter failed" in str(error) or "inline_container" in str(error)


def check_writable(folder: Path) -> None:
    """Make the folder and write a byte there that vanishes; SystemExit where that fails: before the slow work."""
    with explained_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            probe.write(b"0")


@contextmanager
def finished_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it is renamed to `path`, so that the file exists only when it is whole."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, where the file system can; else a second copy."""
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    with finished_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
