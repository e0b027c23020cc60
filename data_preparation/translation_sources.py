"""The raw folders that are to be translated, and the files beside them that the translations become."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from raw_folder import (
    FolderConflict,
    fingerprint,
    finished_runs,
    keep_failure,
    read_raw,
    run_name,
    run_paths,
    write_json,
)
from shards import owns
from text_checks import LANGUAGE_NAMES

CODES = {"zh", "ms", "ta"}
LOCALE = re.compile(r"^(?:C|POSIX|[a-z]{2,3}(?:_[A-Z]{2})?)(?:[.@][\w-]+)*(?::.*)?$")


def items_digest(items: list[dict]) -> str:
    """Tells whether a source file still holds what was translated."""
    return hashlib.sha256(json.dumps(items, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def full_language_names(value: str) -> str:
    return _languages(value, tuple(LANGUAGE_NAMES), "in full spelling")


def language_codes(value: str) -> str:
    return _languages(value, tuple(sorted(CODES)), "as a code")


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


@dataclass(frozen=True)
class TranslationJob:
    """One source file and where its translation goes."""

    source: str  # <folder>/<NNNN.json>
    document: dict
    folder: Path
    run: int
    language_name: str  # as LANGUAGE gives it
    asked: dict

    @property
    def language(self) -> str:
        return LANGUAGE_NAMES.get(self.language_name, self.language_name)

    @property
    def items(self) -> list[dict]:
        return self.document["items"]

    def write(self, done: dict[int, str], faults: dict[int, str], replies: list[dict]) -> None:
        """Items keep their source's order, picture and group; one that was dropped is absent, with its reason."""
        dropped = [
            {"group": self.items[index]["group"], "text": self.items[index]["text"], "reason": reason}
            for index, reason in sorted(faults.items())
        ]
        original = self.document["asked"]
        write_json(
            self.folder / run_name(self.run),
            {
                "asked": {
                    **self.asked,
                    "prompt_key": original.get("prompt_key"),
                    "run": self.run,
                    "language": self.language,
                    "fingerprint": fingerprint(self.asked),
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

    def keep_failure(self, failure: dict) -> None:
        keep_failure(self.folder, self.run, self.asked, {"source": self.source, **failure})


@dataclass(frozen=True)
class FolderPlan:
    """A source folder's files that are to be translated, their translations' folder, and what is there of both."""

    sources: list[Path]
    folder: Path
    language_name: str
    asked: dict

    def missing(self) -> Iterator[TranslationJob]:
        """Jobs for the source files that have no translation yet; a source that is not whole is passed over."""
        finished = finished_runs(self.folder, self.asked)
        for path in self.sources:
            document = read_raw(path)
            if document is None:
                continue
            if document.get("language") != "en":
                raise FolderConflict(
                    f"{path} is itself a translation ({document.get('language')}): set DIR_NAME to the English folder"
                )
            run = int(path.stem)
            if run in finished:
                self._check_source(run, document)
                continue
            yield TranslationJob(
                f"{path.parent.name}/{path.name}", document, self.folder, run, self.language_name, self.asked
            )

    def _check_source(self, run: int, document: dict) -> None:
        translated = read_raw(self.folder / run_name(run))
        if (translated["source"] or {}).get("items_sha256") != items_digest(document["items"]):
            raise FolderConflict(
                f"{self.folder / run_name(run)} translates an earlier {run_name(run)}: its source was "
                f"generated again since. Move {self.folder} away to translate the new one"
            )


def plan_folder(source: Path, language_name: str, asked: dict, shard: str) -> FolderPlan:
    """What the shard is to translate of a folder: the translations of a run are the shard's that has the run."""
    source = source.resolve()
    own = [path for path in run_paths(source) if owns(shard, int(path.stem))]
    return FolderPlan(
        own,
        source.parent / f"{language_name}_{source.name}",
        language_name,
        {**asked, "to": LANGUAGE_NAMES.get(language_name, language_name)},
    )
