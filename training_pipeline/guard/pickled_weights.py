"""Pickled weights (torch.save) become safetensors: read without running code, written by name, and compared."""

import pickle
import zipfile
from pathlib import Path

import torch

from guard.whole_model import DOWNLOAD, UnusableFolder, listed

REMEDY = "take the same model's safetensors"


def read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a state dict, by name; nothing else is unpickled. Raises UnusableFolder."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UnusableFolder(
            f"holds {path.name} that is cut short or more than tensors ({reason}): {REMEDY}, or {DOWNLOAD}"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise UnusableFolder(f"holds {path.name} that is no table of tensors by name: {REMEDY}")
    return dict(found)


def write_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file and prove that it holds the same tensors, bit by bit; raises UnusableFolder."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    save_file(apart(tensors), path, metadata={"format": "pt"})
    with safe_open(path, "pt") as written:
        differing = [name for name, tensor in tensors.items() if not same_bits(tensor, written.get_tensor(name))]
    if differing:
        raise UnusableFolder(f"gave other values once written for {listed(differing, 'tensor')}: is the disk sound?")


def apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each tensor with memory of its own: a safetensors file holds no tensor that shares another's."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        storage = tensor.untyped_storage().data_ptr()
        separate[name] = tensor.detach().clone() if storage in seen else tensor.detach().contiguous()
        seen.add(storage)
    return separate


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return torch.equal(*(tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (first, second)))
