"""Which data sets a script takes (one, several with commas, the newest where none is named), and where it writes."""

import os
import sys
from pathlib import Path

from pydantic_settings import BaseSettings

from guard.output_files import script_name

CHECKOUT = Path(__file__).resolve().parents[2]


def named_paths(value: str) -> list[Path]:
    """Paths with commas between them."""
    return [Path(name.strip()) for name in value.split(",") if name.strip()]


def existing_paths(value: str) -> str:
    """A setting's value as it is; ValueError where it names nothing, or names those that are not there."""
    missing = [str(path) for path in named_paths(value) if not path.exists()]
    if missing or not named_paths(value):
        raise ValueError(f"is not there: {', '.join(missing) or 'nothing is named'}")
    return value


def newest_dataset() -> Path:
    """The data set that was finished last, of this checkout and the working directory; datasets/v3 if there is none."""
    folders = [
        folder
        for root in (Path.cwd(), CHECKOUT)
        for folder in (root / "dataset", root / "data_preparation" / "dataset", *root.glob("artifacts/*/dataset"))
    ]
    finished = [folder / "dataset_dict.json" for folder in folders if (folder / "dataset_dict.json").exists()]
    newest = max(finished, key=lambda path: path.stat().st_mtime, default=None)
    return newest.parent if newest else CHECKOUT / "datasets" / "v3"


def beside(folder: Path, ending: str) -> Path:
    """The folder of the same name with `ending`, in the same place."""
    whole = Path(os.path.abspath(folder))  # `.` and `..` have a name, too
    return whole.with_name(whole.name + ending)


def name_defaults(settings: BaseSettings) -> None:
    """One line on stderr: the folders that nobody named and that are taken all the same."""
    chosen = {name: value for name, value in settings if name in ("dataset_dir", "output_dir")}
    unset = [f"{name.upper()}={value}" for name, value in chosen.items() if name not in settings.model_fields_set]
    if unset:
        print(f"{script_name()}: not set, so taken: {' '.join(unset)}", file=sys.stderr, flush=True)
