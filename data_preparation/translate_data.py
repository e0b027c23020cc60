"""Translate raw folders by a chat model, texts only: image descriptions stay English, as captions are at inference.

Reads   DIR_NAME, one raw folder of generate_data.py or several with commas (relative to the working directory or
        absolute), and prompts/translate.txt; with MODEL_ID=offline/phrasebook also phrasebook/, where wordings are.
Writes  <LANGUAGE>_<folder>/NNNN.json beside each source folder, a file for each of its files. A text that stays
        untranslated after MAX_ATTEMPTS is left out; `dropped` in the file says why, failed/ keeps the replies.

    LANGUAGE=Tamil DIR_NAME=artifacts/raw/phrasebook_general_ok python data_preparation/translate_data.py

Safe to stop at any moment and to run again: only missing files are asked for. Exits 0 when every file is there, 1 when
some are missing, 2 when a setting is unusable or a folder was made with other settings, 130 after Ctrl-C.
With SHARD=i/n all this is about one machine's files (shards.py); the machines' folders are copied together, hidden
files too, or given to clean_dataset.py side by side.
"""

import asyncio
import hashlib
import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    FilePath,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)
from pydantic_settings import BaseSettings

from script_settings import ENVIRONMENT, read_settings
from shards import SHARD_FIELD, WHOLE, hold_runs, known_shard
from translation_sources import full_language_names, raw_folders

HERE = Path(__file__).resolve().parent
PHRASEBOOK = "offline/phrasebook"


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    model_id: str = Field(
        PHRASEBOOK,
        min_length=1,
        description="model that translates; offline/phrasebook knows its "
        "own memes only and needs no key, any other name is asked through the together package",
    )
    api_key: SecretStr | None = Field(None, description="the provider's key; needed unless MODEL_ID=offline/phrasebook")
    language: Annotated[str, AfterValidator(full_language_names)] = Field(
        description="language to translate into: Chinese, Malay or Tamil, several with commas"
    )
    dir_name: Annotated[str, AfterValidator(raw_folders)] = Field(
        description="raw folder to translate, several with commas"
    )
    shard: Annotated[str, AfterValidator(known_shard)] = Field(WHOLE, description=SHARD_FIELD)
    temperature: NonNegativeFloat = Field(0.3, description="sampling temperature")
    max_tokens: PositiveInt = Field(2048, description="longest reply in tokens; raise it when replies are cut off")
    max_attempts: PositiveInt = Field(3, description="times a text is asked for: once with its file, then alone")
    max_retries: int = Field(
        6,
        ge=0,
        description="times a request is sent again after a passing fault; rate limits are waited out and do not count",
    )
    start_in_flight: PositiveInt = Field(8, description="requests in flight at first; adapts from there")
    max_in_flight: PositiveInt = Field(32, description="most requests in flight")
    request_timeout_s: PositiveFloat = Field(120.0, description="seconds to wait for one reply")
    together_base_url: str | None = Field(
        None, description="address of another OpenAI-compatible server, with or without /v1, such as a local vLLM"
    )
    price_per_mtoken_in: NonNegativeFloat | None = Field(None, description="price of a million tokens in, for the sum")
    price_per_mtoken_out: NonNegativeFloat | None = Field(None, description="price of a million tokens out")
    prompt_path: FilePath = Field(HERE / "prompts" / "translate.txt", description="prompt with $language and $texts")
    phrasebook_dir: Path = Field(
        HERE / "phrasebook", description="folder of the phrasebook, read where no chat model is asked"
    )

    @model_validator(mode="after")
    def key_for_a_provider(self):
        if self.model_id != PHRASEBOOK and self.api_key is None:
            raise ValueError(
                f"API_KEY is not set: {self.model_id} is asked over the network; set API_KEY to the "
                f"provider's key, or MODEL_ID={PHRASEBOOK} to need none"
            )
        return self


@dataclass
class Translator:
    """What every job of a call shares; `book` answers where `chat` is None."""

    settings: Settings
    prompt: Template
    chat: object
    book: object
    verdicts: object


@dataclass
class Texts:
    """The state of one file's translation: what is done, why the rest failed, which replies were got."""

    items: list[dict]
    done: dict[int, str] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    replies: list[dict] = field(default_factory=list)


def main() -> int:
    settings = read_settings(Settings, __doc__)
    from phrasebook_source import PhrasebookFault, load_phrasebook
    from raw_folder import FolderConflict
    from translation_sources import plan_folder

    with ExitStack() as held:
        try:
            book = load_phrasebook(settings.phrasebook_dir) if settings.model_id == PHRASEBOOK else None
            asked = asked_of(settings)
            plans = [
                plan_folder(Path(folder), name, asked, settings.shard)
                for folder in settings.dir_name.split(",")
                for name in settings.language.split(",")
            ]
            for planned in plans:
                held.enter_context(hold_runs(planned.folder, settings.shard))
            jobs = [job for planned in plans for job in planned.missing()]
            return asyncio.run(translate(settings, book, jobs, sum(len(planned.sources) for planned in plans)))
        except (FolderConflict, PhrasebookFault, OSError) as fault:
            print(f"translate_data.py: {fault}", file=sys.stderr)
            return 2


def asked_of(settings: Settings) -> dict:
    prompt = settings.prompt_path.read_bytes()
    return {
        "model": settings.model_id,
        "prompt_sha256": hashlib.sha256(prompt).hexdigest(),
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
    }


async def translate(settings: Settings, book, jobs: list, wanted: int) -> int:
    from adaptive_pace import Pace, Stop
    from job_runner import INTERRUPTED, Progress, Verdicts, run_jobs
    from together_chat import TogetherChat, Usage

    stop, usage = Stop(), Usage()
    chat = None
    if book is None:
        pace = Pace(settings.start_in_flight, settings.max_in_flight, stop)
        chat = TogetherChat(
            settings.api_key.get_secret_value(),
            settings.together_base_url,
            settings.request_timeout_s,
            settings.max_retries,
            pace,
            stop,
            usage,
        )
    prompt = Template(settings.prompt_path.read_text(encoding="utf-8"))
    translator = Translator(settings, prompt, chat, book, Verdicts(stop))
    progress = Progress(len(jobs), "files")
    written = {"files": 0, "items": 0, "dropped": 0}

    async def work(job) -> None:
        texts = await translate_file(translator, job)
        if texts is not None:
            job.write(texts.done, texts.faults, texts.replies)
            written["files"] += 1
            written["items"] += len(texts.done)
            written["dropped"] += len(texts.faults)
        progress.advance(translator.verdicts.failures())

    await run_jobs(jobs, work, settings.max_in_flight, stop)
    progress.close()
    if chat:
        await chat.close()
        print(usage.summary(settings.price_per_mtoken_in, settings.price_per_mtoken_out), file=sys.stderr)
    if stop.reason:
        print(f"translate_data.py: stopped early: {stop.reason}", file=sys.stderr)
    failures = translator.verdicts.failures()
    print(
        f"wrote {written['files']:,} files ({written['items']:,} items, {written['dropped']:,} dropped"
        f"{': ' + failures if failures else ''}) in {settings.language} ({wanted - len(jobs):,} were there, "
        f"{len(jobs) - written['files']:,} missing)"
    )
    return 130 if stop.reason == INTERRUPTED else int(written["files"] < len(jobs))


async def translate_file(translator: Translator, job) -> Texts | None:
    """All texts in one request, then what failed alone; None where a request failed for good, so that a rerun asks."""
    from together_chat import RequestFailed

    texts = Texts(job.items)
    try:
        if texts.items:
            await ask_for(translator, job, texts, list(range(len(texts.items))))
        for _ in range(translator.settings.max_attempts - 1):
            for index in sorted(texts.faults):
                await ask_for(translator, job, texts, [index])
    except RequestFailed as fault:
        reason, detail = fault.args
        job.keep_failure({"reason": reason, "detail": detail})
        return None
    return texts


async def ask_for(translator: Translator, job, texts: Texts, indexes: list[int]) -> None:
    """Ask for some of a file's texts and note each as done or with its fault."""
    from meme_items import parse_translations, reply_content
    from text_checks import is_refusal, translation_fault
    from together_chat import RequestFailed

    ticket = translator.verdicts.ask()
    try:
        reply = await reply_to(translator, job, [texts.items[index] for index in indexes])
    except RequestFailed as fault:
        translator.verdicts.note(ticket, fault.args[0])
        raise
    content, reason = reply_content(reply)
    answers = None if reason else parse_translations(content)
    if answers is None:
        reason = reason or ("refusal" if is_refusal(content) else "malformed")
    elif len(answers) != len(indexes):
        reason = "wrong_count"
    for position, index in enumerate(indexes):
        fault = reason or translation_fault(texts.items[index]["text"], answers[position], job.language)
        texts.faults.pop(index, None)
        if fault:
            texts.faults[index] = fault
        else:
            texts.done[index] = answers[position].strip()
    failed = [texts.faults[index] for index in indexes if index in texts.faults]
    translator.verdicts.note(ticket, failed[0] if 2 * len(failed) > len(indexes) else "ok")
    texts.replies.append(reply)
    if failed:
        job.keep_failure({"reason": failed[0], "texts": [texts.items[i]["text"] for i in indexes], "reply": reply})


async def reply_to(translator: Translator, job, items: list[dict]) -> dict:
    from meme_items import TRANSLATIONS_FORMAT
    from phrasebook_source import translation_reply

    settings = translator.settings
    if translator.chat is None:
        return translation_reply(translator.book, items, job.language, f"phrasebook-{job.language}-{job.source}")
    texts = json.dumps([item["text"] for item in items], ensure_ascii=False, indent=1)
    prompt = translator.prompt.substitute(language=job.language_name, texts=texts)
    return await translator.chat.ask(
        {
            "model": settings.model_id,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "response_format": TRANSLATIONS_FORMAT,
        }
    )


if __name__ == "__main__":
    sys.exit(main())
