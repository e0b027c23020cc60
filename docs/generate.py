"""Write what the reference pages take from the code: every script's settings, and the tree of rooms.

Reads   the Settings class of each script, the docstrings of scripts, rooms and modules, `git ls-files`
Writes  docs/configuration.md; in docs/architecture.md what stands between the two `tree` marks

    python docs/generate.py          # or: make docs; a test fails where a page is stale
"""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("data_preparation", "training_pipeline", "docker")
PAGES = ("configuration.md", "architecture.md")
TREE = re.compile(r"(<!-- tree -->\n).*?(<!-- /tree -->)", re.DOTALL)
CONFIGURATION = """\
# Configuration

Written by `make docs` from the scripts' `Settings` classes; `--help` says the same.

Each setting is an environment variable and a flag: `BATCH_SIZE=8 python docker/predict.py` and
`python docker/predict.py --batch-size 8` mean the same. A flag beats the variable, an empty variable counts as unset. A
switch is `STRICT=1`, `--strict` or `--no-strict`. All settings are checked before anything heavy is loaded, and all
that are unusable are named at once. Secrets belong into the environment: other users of the machine see flags.
"""


def main() -> None:
    for name, content in pages().items():
        (ROOT / "docs" / name).write_text(content, encoding="utf-8")
        print(f"wrote docs/{name}")


def pages() -> dict[str, str]:
    """Name to content of every page that is written from the code."""
    architecture = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    return {
        "configuration.md": configuration(),
        "architecture.md": TREE.sub(lambda marks: marks[1] + "```\n" + tree() + "```\n" + marks[2], architecture),
    }


def configuration() -> str:
    sections = [CONFIGURATION]
    for script in scripts():
        settings = settings_of(script)
        rows = [f"| `{name.upper()}` | {default_of(field)} | {meaning_of(field)} |" for name, field in settings.items()]
        heading = f"## `{script.relative_to(ROOT)}`\n\n{first_line(script)}\n"
        sections.append("\n".join([heading, "| setting | default | meaning |", "| --- | --- | --- |", *rows, ""]))
    return "\n".join(sections)


def scripts() -> list[Path]:
    """The scripts that a user runs: modules at the top of a folder that have settings."""
    return [
        path
        for folder in FOLDERS
        for path in sorted((ROOT / folder).glob("*.py"))
        if "class Settings(" in path.read_text(encoding="utf-8")
    ]


def settings_of(script: Path) -> dict[str, FieldInfo]:
    """Fields of the script's Settings class by name: required ones, its own, those shared with other scripts."""
    sys.path.insert(0, str(script.parent))  # where the script itself finds its rooms
    settings: type[BaseSettings] = importlib.import_module(script.stem).Settings
    fields = settings.model_fields
    shown_first = sorted(
        fields, key=lambda name: (not fields[name].is_required(), name not in settings.__annotations__)
    )
    return {name: fields[name] for name in shown_first}


def default_of(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "see right"  # found when the script starts; the meaning says how
    if field.is_required() or field.default is PydanticUndefined:
        return "required"
    if field.default is None or isinstance(field.default, SecretStr):
        return "unset"
    if isinstance(field.default, Path) and field.default.is_relative_to(ROOT):
        return f"`{field.default.relative_to(ROOT)}`"
    return f"`{field.default}`"


def meaning_of(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def tree() -> str:
    """The folders, rooms and modules that are tracked, each Python file with its first sentence."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    paths = [Path(name) for name in tracked if name and (ROOT / name).exists()]
    lines = []
    for folder in FOLDERS:
        lines += [f"{folder}/", *branch(Path(folder), paths), ""]
    return "\n".join(lines)


def branch(folder: Path, paths: list[Path]) -> list[str]:
    """Lines of what lies in a folder: its files first, then its rooms with their own; other folders by name alone."""
    indent = "    " * len(folder.parts)
    files = sorted(path for path in paths if path.parent == folder and path.name != "__init__.py")
    lines = [f"{indent}{path.name:<{30 - len(indent)}}{first_line(ROOT / path)}".rstrip() for path in files]
    rooms = sorted(
        {folder / path.relative_to(folder).parts[0] for path in paths if folder in path.parents[:-1]} - {*files}
    )
    for room in (room for room in rooms if room.name != "__init__.py"):
        room_doc = ROOT / room / "__init__.py"
        lines.append(f"{indent}{room.name + '/':<{30 - len(indent)}}{first_line(room_doc)}".rstrip())
        if room_doc.exists():
            lines += branch(room, paths)
    return lines


def first_line(path: Path) -> str:
    """The first line of a module's docstring; empty for what is no Python file or has none."""
    if path.suffix != ".py" or not path.exists():
        return ""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n")[0]


if __name__ == "__main__":
    main()
