"""Settings of a script: one frozen, checked object from command-line flags and environment variables.

`python script.py --batch-size 8` and `BATCH_SIZE=8 python script.py` mean the same; a flag beats the variable.
pydantic-settings reads both and prints the help; here is what it does not do: all errors at once in plain sentences,
and an echo of what the script goes by.

The same file lies in docker/detector/, training_pipeline/guard/ and data_preparation/raw/, because each folder can be
lifted out by itself; tests/test_contracts.py holds the copies alike.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict

BOTH_WAYS = "Each option is an environment variable, too: BATCH_SIZE=8 is --batch-size 8. An option beats the variable."


class ScriptSettings(BaseSettings):
    """Base class of every script's `Settings`; a field `batch_size` is read from --batch-size or BATCH_SIZE."""

    # An empty variable counts as unset (`API_KEY= python ...`); names such as MODEL_DIR are ours, not pydantic's.
    model_config = SettingsConfigDict(
        frozen=True,
        env_ignore_empty=True,
        protected_namespaces=(),
        extra="ignore",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    @classmethod
    def read(cls, manual: str | None) -> Self:
        """The settings of this process, echoed on stderr with secrets masked.

        `--help` prints `manual` (the script's docstring) and all settings, and exits 0. What is unusable is reported
        all at once, with what is wrong and what the setting is for, and exits 2 before anything heavy is imported.
        """
        script = Path(sys.argv[0]).name
        parser = argparse.ArgumentParser(
            script,
            description=(manual or "").strip(),
            epilog=BOTH_WAYS,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        flags: CliSettingsSource[Any] = CliSettingsSource(cls, root_parser=parser, cli_parse_args=True)
        try:
            settings = cls(_cli_settings_source=flags)
        except ValidationError as invalid:
            # A default that is made of other settings is no error of its own where one of these is unusable.
            errors = [error for error in invalid.errors() if error["type"] != "default_factory_not_called"]
            problems = "".join(f"  {_sentence(cls, error)}\n" for error in errors)
            parser.exit(2, f"{script}: {len(errors)} unusable setting(s)\n{problems}")
        echoed = " ".join(f"{name.upper()}={value}" for name, value in settings if value is not None)
        print(f"{script}: {echoed}", file=sys.stderr, flush=True)
        return settings


def _sentence(settings_class: type[BaseSettings], error: Any) -> str:
    """One of pydantic's errors as `NAME=value: what is wrong. It is: what the setting is for`."""
    message = "is not set" if error["type"] == "missing" else error["msg"].removeprefix("Value error, ")
    if not error["loc"]:  # a check over several settings names them itself
        return message
    field = settings_class.model_fields[str(error["loc"][0])]
    is_secret = "SecretStr" in str(field.annotation)
    given = "" if error["type"] == "missing" or is_secret else f"={error['input']}"
    return f"{str(error['loc'][0]).upper()}{given}: {message}. It is: {field.description}"
