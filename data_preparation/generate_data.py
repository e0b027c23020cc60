"""Generate memes: image descriptions with their texts, by prompt key, as raw replies.

Reads   prompts/generate/<PROMPT_KEY>.txt; with MODEL_ID=offline/phrasebook (no key, no network) also phrasebook/.
Writes  OUTPUT_ROOT/<basename of MODEL_ID>_<PROMPT_KEY>/NNNN.json, one file a run: the provider's whole reply, the
        request, and the items read from the reply. Unusable replies go to failed/ beside them, with the reason.

    PROMPT_KEY=all NUM_RUNS=4 OUTPUT_ROOT=artifacts/raw python data_preparation/generate_data.py

Safe to stop at any moment and to run again: only missing runs are requested. Exits 0 when every run is there, 1 when
some are missing, 2 when a setting is unusable or a folder was made with other settings, 130 after Ctrl-C.
With SHARD=i/n all this is about one machine's runs (raw/shards.py); the machines' folders are copied together, hidden
files too, or given to clean_dataset.py side by side.
"""

import asyncio
import hashlib
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Annotated

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveInt

from chat.job_runner import ChatRun
from chat.phrasebook_source import (
    Filling,
    Idea,
    Phrasebook,
    PhrasebookError,
    generation_reply,
    key_digest,
    load_phrasebook,
    runs_in,
    sequence,
)
from chat.replies import ITEMS_FORMAT, Item, read_items
from chat.sending import RequestFailedError
from chat.settings import FOLDER, ChatSettings
from raw.raw_folder import FolderConflictError, Json, fingerprint, finished_runs, keep_failure, run_name, write_json
from raw.shards import hold_runs, owns

PROMPT_KEYS = (
    "general_ok",
    "Singapore_ok",
    "Singlish_ok",
    "Reddit_ok",
    "general_offensive",
    "Singapore_offensive",
    "Singlish_offensive",
    "Reddit_offensive",
    "religious_racial_offensive",
    "age_gender_sexual_offensive",
    "socioeconomic_illnesses_disabilities_offensive",
)


def known_keys(value: str) -> str:
    keys = PROMPT_KEYS if value == "all" else [key.strip() for key in value.split(",") if key.strip()]
    unknown = [key for key in keys if key not in PROMPT_KEYS]
    if unknown or not keys:
        raise ValueError(
            f"unknown prompt key {', '.join(unknown) or '(none given)'}; "
            f"choose `all` or some of {', '.join(PROMPT_KEYS)}"
        )
    return ",".join(dict.fromkeys(keys))


class Settings(ChatSettings):
    """What to generate, how much of it, and where to."""

    prompt_key: Annotated[str, AfterValidator(known_keys)] = Field(
        "all", description="a prompt key, several with commas, or `all`; several are asked in turns"
    )
    num_runs: PositiveInt = Field(10, description="replies wanted of each prompt key")
    output_root: Path = Field(Path("."), description="folder below which the raw folders are written")
    items_per_reply: PositiveInt = Field(5, description="memes requested in one reply")
    temperature: NonNegativeFloat = Field(0.9, description="sampling temperature")
    seed: int = Field(1, description="order of the phrasebook's ideas and fillings")
    prompts_dir: Path = Field(FOLDER / "prompts" / "generate", description="folder of <PROMPT_KEY>.txt files")


@dataclass(frozen=True)
class KeyPlan:
    """One prompt key of this call: its folder and request, and which of its runs are missing."""

    key: str
    folder: Path
    prompt: str
    request: Json  # what `asked` holds on disk
    wanted: int  # runs of this shard
    missing: list[int]
    pairs: list[tuple[Idea, Filling]]  # the phrasebook's sequence, empty for a chat model


def main() -> int:
    settings = Settings.read(__doc__)
    with ExitStack() as held:
        try:
            book = load_phrasebook(settings.phrasebook_dir) if settings.uses_phrasebook else None
            folders = {
                key: settings.output_root / f"{settings.model_id.rsplit('/', 1)[-1]}_{key}"
                for key in settings.prompt_key.split(",")
            }
            for folder in folders.values():
                held.enter_context(hold_runs(folder, settings.shard))
            plans = [plan_key(settings, key, folder, book) for key, folder in folders.items()]
        except (FolderConflictError, PhrasebookError, OSError) as error:
            print(f"generate_data.py: {error}", file=sys.stderr)
            return 2
        return asyncio.run(generate(settings, plans))


def plan_key(settings: Settings, key: str, folder: Path, book: Phrasebook | None) -> KeyPlan:
    """The key's request, and which of its runs are not there yet."""
    template = (settings.prompts_dir / f"{key}.txt").read_text(encoding="utf-8")
    prompt = Template(template).substitute(items=settings.items_per_reply)
    request = {
        "model": settings.model_id,
        "prompt_key": key,
        "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "items": settings.items_per_reply,
    }
    pairs: list[tuple[Idea, Filling]] = []
    if book is not None:
        request |= {"seed": settings.seed, "phrasebook": key_digest(book, key)}
        pairs = sequence(book, key, settings.seed)
        available = runs_in(pairs, settings.items_per_reply)
        if settings.num_runs > available:
            raise PhrasebookError(
                f"the phrasebook can give {available} runs of {key}, NUM_RUNS wants "
                f"{settings.num_runs}: lower NUM_RUNS, or grow {settings.phrasebook_dir}"
            )
    finished = finished_runs(folder, request)
    wanted = [run for run in range(1, settings.num_runs + 1) if owns(settings.shard, run)]
    return KeyPlan(key, folder, prompt, request, len(wanted), [run for run in wanted if run not in finished], pairs)


def in_turns(plans: list[KeyPlan], num_runs: int) -> Iterator[tuple[KeyPlan, int]]:
    """(plan, run) for all that is missing, run by run across the keys."""
    missing = {plan.key: set(plan.missing) for plan in plans}
    for run in range(1, num_runs + 1):
        yield from ((plan, run) for plan in plans if run in missing[plan.key])


async def generate(settings: Settings, plans: list[KeyPlan]) -> int:
    """Make every missing run; gives the exit code."""
    jobs = list(in_turns(plans, settings.num_runs))
    chat_run = ChatRun(settings)

    async def work(job: tuple[KeyPlan, int]) -> None:
        await make_run(settings, *job, chat_run)

    exit_code = await chat_run.finish(jobs, work, "runs")
    present = sum(plan.wanted for plan in plans) - len(jobs)
    written, failures = chat_run.written, chat_run.failures.summary()
    lacking = f", {written.lacking:,} fewer than asked for, in {written.short:,} runs" if written.lacking else ""
    print(
        f"wrote {written.files:,} runs ({written.items:,} items{lacking}) to {len(plans)} folders below "
        f"{settings.output_root} ({present:,} were there, {len(jobs) - written.files:,} missing"
        f"{'; failed replies: ' + failures if failures else ''})"
    )
    return exit_code


async def make_run(settings: Settings, plan: KeyPlan, run: int, chat_run: ChatRun) -> None:
    """Ask until a reply holds items and write it; after MAX_ATTEMPTS, or a request that failed, it stays missing."""
    for _ in range(settings.max_attempts):
        number = chat_run.failures.start()
        try:
            if chat_run.chat is None:
                reply = generation_reply(plan.pairs, plan.key, run, settings.items_per_reply)
            else:
                reply = await chat_run.chat.ask(plan.prompt, ITEMS_FORMAT)
        except RequestFailedError as error:
            keep_failure(plan.folder, run, plan.request, {"reason": error.reason, "detail": error.detail})
            chat_run.failures.record(number, error.reason)
            return
        items, reason = read_items(reply)
        chat_run.failures.record(number, reason or "ok")
        if items:
            write_run(plan, run, items, reply)
            chat_run.written.add(len(items), lacking=settings.items_per_reply - len(items))
            return
        keep_failure(plan.folder, run, plan.request, {"reason": reason, "reply": reply})


def write_run(plan: KeyPlan, run: int, items: list[Item], reply: Json) -> None:
    """Items carry the group that their translations will share: the phrasebook's idea, else the meme itself."""
    category, label = plan.key.rsplit("_", 1)
    ideas = reply["choices"][0]["message"]["idea_ids"] if plan.pairs else []
    groups = ideas if len(ideas) == len(items) else [f"{plan.folder.name}/{run:04d}#{i}" for i in range(len(items))]
    write_json(
        plan.folder / run_name(run),
        {
            "asked": {**plan.request, "run": run, "language": "en", "fingerprint": fingerprint(plan.request)},
            "label": label,
            "category": category,
            "language": "en",
            "source": None,
            "items": [{**item, "group": group} for item, group in zip(items, groups, strict=True)],
            "reply": reply,
        },
    )


if __name__ == "__main__":
    sys.exit(main())
