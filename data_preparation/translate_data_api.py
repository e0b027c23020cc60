"""Translate raw folders by Google Cloud Translation (v2, API key), texts only: image descriptions stay English.

Reads   DIR_NAME, one raw folder of generate_data.py or several with commas (relative to the working directory or
        absolute).
Writes  <LANGUAGE>_<folder>/NNNN.json beside each source folder, a file for each of its files. A text that is not
        translated is left out; `dropped` in the file says why.

    API_KEY=... LANGUAGE=zh DIR_NAME=artifacts/raw/phrasebook_general_ok python data_preparation/translate_data_api.py

Safe to stop at any moment and to run again: only missing files are asked for. Exits 0 when every file is there, 1 when
some are missing, 2 when a setting is unusable or a folder was made with other settings, 130 after Ctrl-C.
With SHARD=i/n all this is about one machine's files (shards.py); the machines' folders are copied together, hidden
files too, or given to clean_dataset.py side by side.
"""

import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, SecretStr
from pydantic_settings import BaseSettings

from script_settings import ENVIRONMENT, read_settings
from shards import SHARD_FIELD, WHOLE, hold_runs, known_shard
from translation_sources import TranslationJob, language_codes, raw_folders


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    api_key: SecretStr = Field(description="Google Cloud API key of a project with the Cloud Translation API on")
    language: Annotated[str, AfterValidator(language_codes)] = Field(
        description="language to translate into: zh, ms or ta, several with commas"
    )
    dir_name: Annotated[str, AfterValidator(raw_folders)] = Field(
        description="raw folder to translate, several with commas"
    )
    shard: Annotated[str, AfterValidator(known_shard)] = Field(WHOLE, description=SHARD_FIELD)
    max_retries: int = Field(
        6,
        ge=0,
        description="times a request is sent again after a passing fault; rate limits are waited out and do not count",
    )
    request_timeout_s: PositiveFloat = Field(60.0, description="seconds to wait for one reply")
    price_per_mchar: NonNegativeFloat | None = Field(None, description="price of a million characters, for the sum")
    google_translate_endpoint: str | None = Field(None, description="address of another server that speaks the v2 API")


def main() -> int:
    settings = read_settings(Settings, __doc__)
    from google_translate import MODEL_ID
    from raw_folder import FolderConflict
    from translation_sources import plan_folder

    with ExitStack() as held:
        try:
            plans = [
                plan_folder(Path(folder), code, {"model": MODEL_ID, "format": "text"}, settings.shard)
                for folder in settings.dir_name.split(",")
                for code in settings.language.split(",")
            ]
            for planned in plans:
                held.enter_context(hold_runs(planned.folder, settings.shard))
            jobs = [job for planned in plans for job in planned.missing()]
            return translate(settings, jobs, sum(len(planned.sources) for planned in plans))
        except (FolderConflict, OSError) as fault:
            print(f"translate_data_api.py: {fault}", file=sys.stderr)
            return 2


def translate(settings: Settings, jobs: list[TranslationJob], wanted: int) -> int:
    from google_translate import GoogleTranslate
    from job_runner import Progress
    from together_chat import StopRun, Usage

    usage, interrupted = Usage(), []
    for number in (signal.SIGINT, signal.SIGTERM):  # the request under way finishes; a second one ends the process
        signal.signal(number, lambda got, _frame: (interrupted.append(got), signal.signal(got, signal.SIG_DFL)))
    google = GoogleTranslate(
        settings.api_key.get_secret_value(),
        settings.google_translate_endpoint,
        settings.max_retries,
        settings.request_timeout_s,
        usage,
    )
    progress = Progress(len(jobs), "files")
    written = {"files": 0, "items": 0, "dropped": 0, "characters": 0}
    try:
        for group in job_groups(jobs):
            if interrupted:
                break
            written["characters"] += sum(len(item["text"]) for job in group for item in job.items)
            translate_group(google, group, written)
            progress.advance(count=len(group))
    except StopRun as fault:
        print(f"translate_data_api.py: stopped: {fault}", file=sys.stderr)
    progress.close()
    cost = (
        ""
        if settings.price_per_mchar is None
        else (f", cost {written['characters'] * settings.price_per_mchar / 1e6:.4f}")
    )
    print(
        f"{usage.requests:,} requests ({usage.retries:,} retries, {usage.rate_limited:,} rate-limited), "
        f"{written['characters']:,} characters{cost}",
        file=sys.stderr,
    )
    missing = len(jobs) - written["files"]
    print(
        f"wrote {written['files']:,} files ({written['items']:,} items, {written['dropped']:,} dropped) in "
        f"{settings.language} ({wanted - len(jobs):,} were there, {missing:,} missing)"
    )
    return 130 if interrupted else int(missing > 0)


def job_groups(jobs: list[TranslationJob]):
    """Consecutive files of one language whose texts fit one request together; a file too big for one stands alone."""
    from google_translate import ENVELOPE_BYTES, MOST_BYTES, MOST_SEGMENTS, json_bytes

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


def translate_group(google, group: list[TranslationJob], written: dict[str, int]) -> None:
    """Translate the texts of some files together and write each file; those of a failed request stay missing."""
    from google_translate import batches
    from together_chat import RequestFailed

    texts = [item["text"] for job in group for item in job.items]
    try:
        entries = [entry for batch in batches(texts) for entry in google.translate(batch, group[0].language)]
    except RequestFailed as fault:
        reason, detail = fault.args
        print(f"{group[0].source} and {len(group) - 1} more: {reason}: {detail}", file=sys.stderr)
        for job in group:
            job.keep_failure({"reason": reason, "detail": detail})
        return
    position = 0
    for job in group:
        own, position = entries[position : position + len(job.items)], position + len(job.items)
        done, faults = checked(google, job, own)
        job.write(done, faults, [{"data": {"translations": own}}])
        written["files"] += 1
        written["items"] += len(done)
        written["dropped"] += len(faults)


def checked(google, job: TranslationJob, entries: list[dict]) -> tuple[dict[int, str], dict[int, str]]:
    """Translations by index, and why the others are none; what fails is asked again alone, once."""
    from text_checks import translation_fault
    from together_chat import RequestFailed

    done, faults = {}, {}
    for index, (item, entry) in enumerate(zip(job.items, entries, strict=True)):
        fault = translation_fault(item["text"], entry.get("translatedText"), job.language)
        if fault:
            job.keep_failure({"reason": fault, "texts": [item["text"]], "reply": entry})
            try:
                entry = google.translate([item["text"]], job.language)[0]
                fault = translation_fault(item["text"], entry.get("translatedText"), job.language)
            except RequestFailed as failed:
                fault = failed.args[0]
        if fault:
            faults[index] = fault
        else:
            done[index] = entry["translatedText"].strip()
    return done, faults


if __name__ == "__main__":
    sys.exit(main())
