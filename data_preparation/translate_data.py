"""Translate raw folders by a chat model, texts only: image descriptions stay English, as captions are at inference.

Reads   DIR_NAME, one raw folder of generate_data.py or several with commas (relative to the working directory or
        absolute), and prompts/translate.txt; with MODEL_ID=offline/phrasebook also phrasebook/, where wordings are.
Writes  <LANGUAGE>_<folder>/NNNN.json beside each source folder, a file for each of its files. A text that stays
        untranslated after MAX_ATTEMPTS is left out; `dropped` in the file says why, failed/ keeps the replies.

    LANGUAGE=Tamil DIR_NAME=artifacts/raw/phrasebook_general_ok python data_preparation/translate_data.py

Safe to stop at any moment and to run again: only missing files are requested. Exits 0 when every file is there, 1 when
some are missing, 2 when a setting is unusable or a folder was made with other settings, 130 after Ctrl-C.
With SHARD=i/n all this is about one machine's files (raw/shards.py); the machines' folders are copied together, hidden
files too, or given to clean_dataset.py side by side.
"""

import asyncio
import hashlib
import json
import sys
from dataclasses import dataclass, field
from string import Template
from typing import Annotated

from pydantic import AfterValidator, Field, FilePath, NonNegativeFloat

from chat.job_runner import ChatRun
from chat.phrasebook_source import Phrasebook, PhrasebookError, load_phrasebook, translation_reply
from chat.replies import TRANSLATIONS_FORMAT, parse_translations, reply_content
from chat.sending import RequestFailedError
from chat.settings import FOLDER, ChatSettings
from chat.translations import DirName, TranslationJob, TranslationPlan, full_language_names, planned
from raw.raw_folder import FolderConflictError, Json
from raw.refusals import is_refusal
from raw.text_checks import translation_problem


class Settings(ChatSettings):
    """What to translate, and into which languages."""

    language: Annotated[str, AfterValidator(full_language_names)] = Field(
        description="language to translate into: Chinese, Malay or Tamil, several with commas"
    )
    dir_name: DirName
    temperature: NonNegativeFloat = Field(0.3, description="sampling temperature")
    prompt_path: FilePath = Field(FOLDER / "prompts" / "translate.txt", description="prompt with $language and $texts")


@dataclass
class Texts:
    """The state of one file's translation: what is done, why the rest failed, which replies were got."""

    items: list[Json]
    done: dict[int, str] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    replies: list[Json] = field(default_factory=list)


@dataclass
class Translator:
    """What every job of a call shares; `book` answers where the run has no chat model."""

    settings: Settings
    prompt: Template
    book: Phrasebook | None
    chat_run: ChatRun


def main() -> int:
    settings = Settings.read(__doc__)
    try:
        request = {
            "model": settings.model_id,
            "prompt_sha256": hashlib.sha256(settings.prompt_path.read_bytes()).hexdigest(),
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
        }
        book = load_phrasebook(settings.phrasebook_dir) if settings.uses_phrasebook else None
        with planned(settings.dir_name, settings.language, request, settings.shard) as plan:
            return asyncio.run(translate(settings, book, plan))
    except (FolderConflictError, PhrasebookError, OSError) as error:
        print(f"translate_data.py: {error}", file=sys.stderr)
        return 2


async def translate(settings: Settings, book: Phrasebook | None, plan: TranslationPlan) -> int:
    """Translate every file that is missing; gives the exit code."""
    chat_run = ChatRun(settings)
    prompt = Template(settings.prompt_path.read_text(encoding="utf-8"))
    translator = Translator(settings, prompt, book, chat_run)

    async def work(job: TranslationJob) -> None:
        texts = await translate_file(translator, job)
        if texts is not None:
            job.write(texts.done, texts.problems, texts.replies)
            chat_run.written.add(len(texts.done), len(texts.problems))

    exit_code = await chat_run.finish(plan.jobs, work, "files")
    print(plan.summary(chat_run.written, settings.language, chat_run.failures.summary()))
    return exit_code


async def translate_file(translator: Translator, job: TranslationJob) -> Texts | None:
    """All texts in one request, then each alone that failed; None after a failed request, for a rerun to try again."""
    texts = Texts(job.items)
    try:
        if texts.items:
            await request_texts(translator, job, texts, list(range(len(texts.items))))
        for _ in range(translator.settings.max_attempts - 1):
            for index in sorted(texts.problems):
                await request_texts(translator, job, texts, [index])
    except RequestFailedError as error:
        job.keep_failure({"reason": error.reason, "detail": error.detail})
        return None
    return texts


async def request_texts(translator: Translator, job: TranslationJob, texts: Texts, indexes: list[int]) -> None:
    """Request the translations of some of a file's texts and note each as done or with its problem."""
    failures = translator.chat_run.failures
    number = failures.start()
    try:
        reply = await reply_to(translator, job, [texts.items[index] for index in indexes])
    except RequestFailedError as error:
        failures.record(number, error.reason)
        raise
    translations, reason = translations_in(reply, len(indexes))
    for index, translation in zip(indexes, translations, strict=True):
        problem = reason or translation_problem(texts.items[index]["text"], translation, job.language)
        texts.problems.pop(index, None)
        if problem:
            texts.problems[index] = problem
        else:
            texts.done[index] = str(translation).strip()
    failed = [texts.problems[index] for index in indexes if index in texts.problems]
    failures.record(number, failed[0] if 2 * len(failed) > len(indexes) else "ok")
    texts.replies.append(reply)
    if failed:
        job.keep_failure({"reason": failed[0], "texts": [texts.items[i]["text"] for i in indexes], "reply": reply})


def translations_in(reply: Json, count: int) -> tuple[list[object], str | None]:
    """The reply's `count` translations and None, or `count` times None and the reason why it has them not."""
    content, reason = reply_content(reply)
    translations = None if reason else parse_translations(content)
    if translations is None:
        reason = reason or ("refusal" if is_refusal(content) else "malformed")
    elif len(translations) != count:
        reason = "wrong_count"
    return ([None] * count, reason) if reason or translations is None else (translations, None)


async def reply_to(translator: Translator, job: TranslationJob, items: list[Json]) -> Json:
    chat = translator.chat_run.chat
    if chat is None:
        assert translator.book is not None, "main() loads the phrasebook where no chat model is asked"
        return translation_reply(translator.book, items, job.language, f"phrasebook-{job.language}-{job.source}")
    texts = json.dumps([item["text"] for item in items], ensure_ascii=False, indent=1)
    return await chat.ask(translator.prompt.substitute(language=job.language_name, texts=texts), TRANSLATIONS_FORMAT)


if __name__ == "__main__":
    sys.exit(main())
