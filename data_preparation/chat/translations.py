"""The raw folders that are to be translated, and the files beside them that the translations become."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from chat.job_runner import Written
from raw.raw_folder import (
    FolderConflictError,
    Json,
    fingerprint,
    finished_runs,
    keep_failure,
    read_raw,
    run_name,
    run_paths,
    write_json,
)
from raw.shards import hold_runs, owns
from raw.text_checks import LANGUAGE_NAMES

CODES = tuple(sorted(LANGUAGE_NAMES.values()))
LOCALE = re.compile(r"^(?:C|POSIX|[a-z]{2,3}(?:_[A-Z]{2})?)(?:[.@][\w-]+)*(?::.*)?$")


def full_language_names(value: str) -> str:
    return _languages(value, tuple(LANGUAGE_NAMES), "in full spelling")


def language_codes(value: str) -> str:
    return _languages(value, CODES, "as a code")


def _languages(value: str, known: tuple[str, ...], how: str) -> str:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if names and all(name in known for name in names):
        return ",".join(dict.fromkeys(names))
    hint = (
        (
            "; this value looks like your system's own, because LANGUAGE is also the variable by which GNU gettext "
            "chooses a program's language"
        )
        if LOCALE.match(value) and value not in CODES
        else ""
    )
    raise ValueError(f"not a language to translate into{hint}; set LANGUAGE to {', '.join(known)} ({how})")


def raw_folders(value: str) -> str:
    """Folders by commas, each of them a raw folder in English."""
    folders = [Path(name.strip()) for name in value.split(",") if name.strip()]
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is no folder; DIR_NAME takes raw folders that generate_data.py wrote")
        if not run_paths(folder):
            raise ValueError(f"{folder} holds no NNNN.json; DIR_NAME takes raw folders that generate_data.py wrote")
    if not folders:
        raise ValueError("names no folder")
    return ",".join(str(folder) for folder in dict.fromkeys(folders))


DirName = Annotated[str, AfterValidator(raw_folders), Field(description="raw folder to translate, several with commas")]


def items_digest(items: list[Json]) -> str:
    """Tells whether a source file still holds what was translated."""
    return hashlib.sha256(json.dumps(items, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True)
class TranslationJob:
    """One source file and where its translation goes."""

    source: str  # <folder>/<NNNN.json>
    document: Json
    folder: Path
    run: int
    language_name: str  # as LANGUAGE gives it
    request: Json  # what `asked` holds on disk

    @property
    def language(self) -> str:
        return LANGUAGE_NAMES.get(self.language_name, self.language_name)

    @property
    def items(self) -> list[Json]:
        return self.document["items"]

    def write(self, done: dict[int, str], problems: dict[int, str], replies: list[Json]) -> None:
        """Items keep their source's order, picture and group; one that was dropped is absent, with its reason."""
        dropped = [
            {"group": self.items[index]["group"], "text": self.items[index]["text"], "reason": reason}
            for index, reason in sorted(problems.items())
        ]
        original = self.document["asked"]
        write_json(
            self.folder / run_name(self.run),
            {
                "asked": {
                    **self.request,
                    "prompt_key": original.get("prompt_key"),
                    "run": self.run,
                    "language": self.language,
                    "fingerprint": fingerprint(self.request),
                },
                "label": self.document["label"],
                "category": self.document["category"],
                "language": self.language,
                "source": {
                    "file": self.source,
                    "model": original.get("model"),
                    "items_sha256": items_digest(self.items),
                },
                "items": [{**self.items[index], "text": done[index]} for index in sorted(done)],
                "dropped": dropped,
                "reply": replies[0] if replies else None,
                "further_replies": replies[1:],
            },
        )

    def keep_failure(self, failure: Json) -> None:
        keep_failure(self.folder, self.run, self.request, {"source": self.source, **failure})


@dataclass(frozen=True)
class FolderPlan:
    """A source folder's files that are to be translated, their translations' folder, and what is there of both."""

    sources: list[Path]
    folder: Path
    language_name: str
    request: Json

    def missing(self) -> Iterator[TranslationJob]:
        """Jobs for the source files that have no translation yet; a source that is not whole is passed over."""
        finished = finished_runs(self.folder, self.request)
        for path in self.sources:
            document = read_raw(path)
            if document is None:
                continue
            if document.get("language") != "en":
                raise FolderConflictError(
                    f"{path} is itself a translation ({document.get('language')}): set DIR_NAME to the English folder"
                )
            run = int(path.stem)
            if run in finished:
                self._check_source(run, document)
                continue
            yield TranslationJob(
                f"{path.parent.name}/{path.name}", document, self.folder, run, self.language_name, self.request
            )

    def _check_source(self, run: int, document: Json) -> None:
        translated = read_raw(self.folder / run_name(run)) or {}
        if (translated.get("source") or {}).get("items_sha256") != items_digest(document["items"]):
            raise FolderConflictError(
                f"{self.folder / run_name(run)} translates an earlier {run_name(run)}: its source was "
                f"generated again since. Move {self.folder} away to translate the new one"
            )


@dataclass(frozen=True)
class TranslationPlan:
    """All that a call is to translate: the jobs, and how many files were there already."""

    jobs: list[TranslationJob]
    present: int

    def summary(self, written: Written, languages: str, failures: str = "") -> str:
        """The last line on stdout."""
        return (
            f"wrote {written.files:,} files ({written.items:,} items, {written.dropped:,} dropped"
            f"{': ' + failures if failures else ''}) in {languages} ({self.present:,} were there, "
            f"{len(self.jobs) - written.files:,} missing)"
        )


@contextmanager
def planned(dir_name: str, languages: str, request: Json, shard: str) -> Iterator[TranslationPlan]:
    """What is to be translated of all folders into all languages, with its folders locked until the end.

    The translations of a run are the shard's that has the run.
    """
    plans = [
        _plan_folder(Path(folder), name, request, shard)
        for folder in dir_name.split(",")
        for name in languages.split(",")
    ]
    with ExitStack() as held:
        for plan in plans:
            held.enter_context(hold_runs(plan.folder, shard))
        jobs = [job for plan in plans for job in plan.missing()]
        yield TranslationPlan(jobs, sum(len(plan.sources) for plan in plans) - len(jobs))


def _plan_folder(source: Path, language_name: str, request: Json, shard: str) -> FolderPlan:
    source = source.resolve()
    own = [path for path in run_paths(source) if owns(shard, int(path.stem))]
    return FolderPlan(
        own,
        source.parent / f"{language_name}_{source.name}",
        language_name,
        {**request, "to": LANGUAGE_NAMES.get(language_name, language_name)},
    )
