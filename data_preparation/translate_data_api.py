"""Translate raw folders by Google Cloud Translation (v2, API key), texts only: image descriptions stay English.

Reads   DIR_NAME, one raw folder of generate_data.py or several with commas (relative to the working directory or
        absolute).
Writes  <LANGUAGE>_<folder>/NNNN.json beside each source folder, a file for each of its files. A text that is not
        translated is left out; `dropped` in the file says why.

    API_KEY=... LANGUAGE=zh DIR_NAME=artifacts/raw/phrasebook_general_ok python data_preparation/translate_data_api.py

Safe to stop at any moment and to run again: only missing files are requested. Exits 0 when every file is there, 1 when
some are missing, 2 when a setting is unusable or a folder was made with other settings, 130 after Ctrl-C.
With SHARD=i/n all this is about one machine's files (raw/shards.py); the machines' folders are copied together, hidden
files too, or given to clean_dataset.py side by side.
"""

import sys
from collections.abc import Iterator
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, SecretStr

from chat.google_client import ENVELOPE_BYTES, MODEL_ID, MOST_BYTES, MOST_SEGMENTS, GoogleTranslate, batches, json_bytes
from chat.interrupts import Interrupts
from chat.job_runner import Written
from chat.sending import AbortRunError, RequestFailedError, StoppedError, Usage
from chat.settings import ServiceSettings
from chat.translations import DirName, TranslationJob, TranslationPlan, language_codes, planned
from raw.progress import Progress
from raw.raw_folder import FolderConflictError, Json
from raw.text_checks import translation_problem


class Settings(ServiceSettings):
    """What to translate, into which languages, with which key."""

    api_key: SecretStr = Field(description="Google Cloud API key of a project with the Cloud Translation API on")
    language: Annotated[str, AfterValidator(language_codes)] = Field(
        description="language to translate into: zh, ms or ta, several with commas"
    )
    dir_name: DirName
    request_timeout_s: PositiveFloat = Field(60.0, description="seconds to wait for one reply")
    price_per_mchar: NonNegativeFloat | None = Field(None, description="price of a million characters, for the sum")
    google_translate_endpoint: str | None = Field(None, description="address of another server that speaks the v2 API")


def main() -> int:
    settings = Settings.read(__doc__)
    request = {"model": MODEL_ID, "format": "text"}
    try:
        with planned(settings.dir_name, settings.language, request, settings.shard) as plan:
            return translate(settings, plan)
    except (FolderConflictError, OSError) as error:
        print(f"translate_data_api.py: {error}", file=sys.stderr)
        return 2


def translate(settings: Settings, plan: TranslationPlan) -> int:
    """Translate every file that is missing, some in one request; gives the exit code."""
    usage, written, characters = Usage(), Written(), 0
    interrupts = Interrupts()
    google = GoogleTranslate(
        settings.api_key.get_secret_value(),
        settings.google_translate_endpoint,
        settings.max_retries,
        settings.request_timeout_s,
        usage,
        interrupts,
    )
    progress = Progress(len(plan.jobs), "files")
    try:
        for group in job_groups(plan.jobs):
            interrupts.check()
            characters += sum(len(item["text"]) for job in group for item in job.items)
            translate_group(google, group, written)
            progress.advance(count=len(group))
    except (AbortRunError, StoppedError) as error:
        kept = f"stopped early, {written.files:,} files of this call kept"
        print(f"translate_data_api.py: {kept}: {error}", file=sys.stderr)
    progress.close()
    price = settings.price_per_mchar
    cost = "" if price is None else f", cost {characters * price / 1e6:.4f}"
    print(f"{usage.requests_line()}, {characters:,} characters{cost}", file=sys.stderr)
    print(plan.summary(written, settings.language))
    return 130 if interrupts.received else int(written.files < len(plan.jobs))


def job_groups(jobs: list[TranslationJob]) -> Iterator[list[TranslationJob]]:
    """Consecutive files of one language whose texts fit one request together; a file too big for one stands alone."""
    group: list[TranslationJob] = []
    segments, size = 0, ENVELOPE_BYTES
    for job in jobs:
        own_segments, own_size = len(job.items), sum(json_bytes(item["text"]) for item in job.items)
        full = segments + own_segments > MOST_SEGMENTS or size + own_size > MOST_BYTES
        if group and (full or job.language != group[0].language):
            yield group
            group, segments, size = [], 0, ENVELOPE_BYTES
        group.append(job)
        segments, size = segments + own_segments, size + own_size
    if group:
        yield group


def translate_group(google: GoogleTranslate, group: list[TranslationJob], written: Written) -> None:
    """Translate the texts of some files together and write each file; those of a failed request stay missing."""
    texts = [item["text"] for job in group for item in job.items]
    try:
        entries = [entry for batch in batches(texts) for entry in google.translate(batch, group[0].language)]
    except RequestFailedError as error:
        print(f"{group[0].source} and {len(group) - 1} more: {error.reason}: {error.detail}", file=sys.stderr)
        for job in group:
            job.keep_failure({"reason": error.reason, "detail": error.detail})
        return
    position, stopped = 0, None
    for job in group:
        own, position = entries[position : position + len(job.items)], position + len(job.items)
        try:
            done, problems = checked(None if stopped else google, job, own)
        except (AbortRunError, StoppedError) as error:  # the other files of the group are paid for
            stopped = error
            continue
        if stopped is None or not problems:
            job.write(done, problems, [{"data": {"translations": own}}])
            written.add(len(done), len(problems))
    if stopped:
        raise stopped


def checked(
    google: GoogleTranslate | None, job: TranslationJob, entries: list[Json]
) -> tuple[dict[int, str], dict[int, str]]:
    """Translations by index, and why the others are none; what fails is requested again alone, once, if at all."""
    done: dict[int, str] = {}
    problems: dict[int, str] = {}
    for index, (item, entry) in enumerate(zip(job.items, entries, strict=True)):
        problem = translation_problem(item["text"], entry.get("translatedText"), job.language)
        if problem and google:
            job.keep_failure({"reason": problem, "texts": [item["text"]], "reply": entry})
            try:
                entry = google.translate([item["text"]], job.language)[0]
                problem = translation_problem(item["text"], entry.get("translatedText"), job.language)
            except RequestFailedError as error:
                problem = error.reason
        if problem:
            problems[index] = problem
        else:
            done[index] = entry["translatedText"].strip()
    return done, problems


if __name__ == "__main__":
    sys.exit(main())
