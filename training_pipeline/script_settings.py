"""Environment variables in, one checked and frozen `Settings` out: the same manners for every script.

The same file lies in data_preparation/, training_pipeline/ and docker/, because each folder can be lifted out by
itself; tests/test_contracts.py holds the copies alike.
"""

import sys
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, SettingsConfigDict

# An empty variable counts as unset (`API_KEY= python ...`); names such as MODEL_DIR are ours, not pydantic's.
ENVIRONMENT = SettingsConfigDict(frozen=True, env_ignore_empty=True, protected_namespaces=(), extra="ignore")
SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def read_settings(settings_class: type[SettingsT], manual: str) -> SettingsT:
    """Settings from the environment, echoed on stderr with secrets masked.

    `--help` prints the manual and the variables and exits 0. Unusable values are all reported at once, each with its
    variable, what is wrong and what the variable is for, and exit 2 before anything heavy is imported.
    """
    script = Path(sys.argv[0]).name
    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(f"{manual.strip()}\n\nEnvironment variables:\n{variables_table(settings_class)}")
        raise SystemExit(0)
    if arguments:
        _stop(f"{script}: takes no arguments ({' '.join(arguments)}); set environment variables, see --help")
    try:
        settings = settings_class()
    except ValidationError as invalid:
        _stop(f"{script}: {invalid.error_count()} unusable setting(s)\n" + _fault_lines(settings_class, invalid))
    echoed = " ".join(f"{name.upper()}={value}" for name, value in settings if value is not None)
    print(f"{script}: {echoed}", file=sys.stderr, flush=True)
    return settings


def variables_table(settings_class: type[BaseSettings]) -> str:
    """One line a variable: name, default (or `required`), description."""
    rows = [
        (name.upper(), _default_text(field), field.description or "")
        for name, field in settings_class.model_fields.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"  {name:<{widths[0]}}  {default:<{widths[1]}}  {text}" for name, default, text in rows)


def _default_text(field) -> str:
    if field.is_required() or field.default is PydanticUndefined:
        return "required"
    if field.default is None or isinstance(field.default, SecretStr):
        return "unset"
    return str(field.default)


def _fault_lines(settings_class: type[BaseSettings], invalid: ValidationError) -> str:
    lines = []
    for fault in invalid.errors():
        if not fault["loc"]:  # a check over several variables names them itself
            lines.append(f"  {fault['msg'].removeprefix('Value error, ')}")
            continue
        name = str(fault["loc"][0])
        field = settings_class.model_fields[name]
        message = "is not set" if fault["type"] == "missing" else fault["msg"].removeprefix("Value error, ")
        is_secret = "SecretStr" in str(field.annotation)
        given = "" if fault["type"] == "missing" or is_secret else f"={fault['input']}"
        lines.append(f"  {name.upper()}{given}: {message}. It is: {field.description}")
    return "\n".join(lines)


def _stop(message: str) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(2)
