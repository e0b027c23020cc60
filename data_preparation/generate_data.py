"""Generate memes: image descriptions with their texts, by prompt key, as raw replies.

Reads   prompts/generate/<PROMPT_KEY>.txt; with MODEL_ID=offline/phrasebook (no key, no network) also phrasebook/.
Writes  OUTPUT_ROOT/<basename of MODEL_ID>_<PROMPT_KEY>/NNNN.json, one file a run: the provider's whole reply, what was
        asked, and the items read from it. Replies that are no data go to failed/ beside them, with the reason.

    PROMPT_KEY=all NUM_RUNS=4 OUTPUT_ROOT=artifacts/raw python data_preparation/generate_data.py

Safe to stop at any moment and to run again: only missing runs are asked for. Exits 0 when every run is there, 1 when
some are missing, 2 when a setting is unusable or a folder was made with other settings, 130 after Ctrl-C.
With SHARD=i/n all this is about one machine's runs (shards.py); the machines' folders are copied together, hidden
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

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, SecretStr, model_validator
from pydantic_settings import BaseSettings

from script_settings import ENVIRONMENT, read_settings
from shards import SHARD_FIELD, WHOLE, hold_runs, known_shard, owns

HERE = Path(__file__).resolve().parent
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
PHRASEBOOK = "offline/phrasebook"


def known_keys(value: str) -> str:
    keys = PROMPT_KEYS if value == "all" else [key.strip() for key in value.split(",") if key.strip()]
    unknown = [key for key in keys if key not in PROMPT_KEYS]
    if unknown or not keys:
        raise ValueError(
            f"unknown prompt key {', '.join(unknown) or '(none given)'}; "
            f"choose `all` or some of {', '.join(PROMPT_KEYS)}"
        )
    return ",".join(dict.fromkeys(keys))


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    model_id: str = Field(
        PHRASEBOOK,
        min_length=1,
        description="model that writes the memes; offline/phrasebook "
        "needs no key and no network, any other name is asked through the together package",
    )
    api_key: SecretStr | None = Field(None, description="the provider's key; needed unless MODEL_ID=offline/phrasebook")
    prompt_key: Annotated[str, AfterValidator(known_keys)] = Field(
        "all", description="a prompt key, several with commas, or `all`; several are asked in turns"
    )
    num_runs: PositiveInt = Field(10, description="replies wanted of each prompt key")
    shard: Annotated[str, AfterValidator(known_shard)] = Field(WHOLE, description=SHARD_FIELD)
    output_root: Path = Field(Path("."), description="folder below which the raw folders are written")
    items_per_reply: PositiveInt = Field(5, description="memes asked for in one reply")
    temperature: NonNegativeFloat = Field(0.9, description="sampling temperature")
    max_tokens: PositiveInt = Field(2048, description="longest reply in tokens; raise it when replies are cut off")
    seed: int = Field(1, description="order of the phrasebook's ideas and fillings")
    max_attempts: PositiveInt = Field(3, description="times a run is asked for when its reply is no data")
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
    prompts_dir: Path = Field(HERE / "prompts" / "generate", description="folder of <PROMPT_KEY>.txt files")
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


@dataclass(frozen=True)
class Task:
    """One prompt key of this call: where its files go, what is asked, which of its runs are missing."""

    key: str
    folder: Path
    prompt: str
    asked: dict
    wanted: int  # runs of this shard
    missing: list[int]
    pairs: list  # the phrasebook's sequence, empty for a chat model


def main() -> int:
    settings = read_settings(Settings, __doc__)
    from phrasebook_source import PhrasebookFault, load_phrasebook
    from raw_folder import FolderConflict

    with ExitStack() as held:
        try:
            book = load_phrasebook(settings.phrasebook_dir) if settings.model_id == PHRASEBOOK else None
            folders = {
                key: settings.output_root / f"{settings.model_id.rsplit('/', 1)[-1]}_{key}"
                for key in settings.prompt_key.split(",")
            }
            for folder in folders.values():
                held.enter_context(hold_runs(folder, settings.shard))
            tasks = [plan(settings, key, folder, book) for key, folder in folders.items()]
        except (FolderConflict, PhrasebookFault, OSError) as fault:
            print(f"generate_data.py: {fault}", file=sys.stderr)
            return 2
        return asyncio.run(generate(settings, tasks))


def plan(settings: Settings, key: str, folder: Path, book) -> Task:
    """What is asked for a key, and which of its runs are not there yet."""
    from phrasebook_source import PhrasebookFault, key_digest, runs_in, sequence
    from raw_folder import finished_runs

    template = (settings.prompts_dir / f"{key}.txt").read_text(encoding="utf-8")
    prompt = Template(template).substitute(items=settings.items_per_reply)
    prompt_sha256 = hashlib.sha256(prompt.encode()).hexdigest()
    asked = {
        "model": settings.model_id,
        "prompt_key": key,
        "prompt_sha256": prompt_sha256,
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "items": settings.items_per_reply,
    }
    pairs = []
    if book is not None:
        asked |= {"seed": settings.seed, "phrasebook": key_digest(book, key)}
        pairs = sequence(book, key, settings.seed)
        available = runs_in(pairs, settings.items_per_reply)
        if settings.num_runs > available:
            raise PhrasebookFault(
                f"the phrasebook can give {available} runs of {key}, NUM_RUNS asks for "
                f"{settings.num_runs}: lower NUM_RUNS, or grow {settings.phrasebook_dir}"
            )
    finished = finished_runs(folder, asked)
    wanted = [run for run in range(1, settings.num_runs + 1) if owns(settings.shard, run)]
    return Task(key, folder, prompt, asked, len(wanted), [run for run in wanted if run not in finished], pairs)


def in_turns(tasks: list[Task], num_runs: int) -> Iterator[tuple[Task, int]]:
    """(task, run) for all that is missing, run by run across the keys."""
    missing = {task.key: set(task.missing) for task in tasks}
    for run in range(1, num_runs + 1):
        yield from ((task, run) for task in tasks if run in missing[task.key])


async def generate(settings: Settings, tasks: list[Task]) -> int:
    from adaptive_pace import Pace, Stop
    from job_runner import INTERRUPTED, Progress, Verdicts, run_jobs
    from together_chat import TogetherChat, Usage

    missing = sum(len(task.missing) for task in tasks)
    stop, usage = Stop(), Usage()
    verdicts, progress = Verdicts(stop), Progress(missing, "runs")
    written: dict[str, int] = {"runs": 0, "items": 0}
    chat = None
    if settings.model_id != PHRASEBOOK:
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

    async def work(job: tuple[Task, int]) -> None:
        items = await make_run(settings, *job, chat, verdicts)
        written["runs"] += items > 0
        written["items"] += items
        progress.advance(verdicts.failures())

    await run_jobs(in_turns(tasks, settings.num_runs), work, settings.max_in_flight, stop)
    progress.close()
    if chat:
        await chat.close()
        print(usage.summary(settings.price_per_mtoken_in, settings.price_per_mtoken_out), file=sys.stderr)
    if stop.reason:
        print(f"generate_data.py: stopped early: {stop.reason}", file=sys.stderr)
    present = sum(task.wanted for task in tasks) - missing
    failures = verdicts.failures()
    print(
        f"wrote {written['runs']:,} runs ({written['items']:,} items) to {len(tasks)} folders below "
        f"{settings.output_root} ({present:,} were there, {missing - written['runs']:,} missing"
        f"{'; failed replies: ' + failures if failures else ''})"
    )
    return 130 if stop.reason == INTERRUPTED else int(written["runs"] < missing)


async def make_run(settings: Settings, task: Task, run: int, chat, verdicts) -> int:
    """Ask until a reply holds items and write it; gives the number of items, 0 when all attempts failed."""
    from meme_items import classify
    from raw_folder import keep_failure
    from together_chat import RequestFailed

    for _ in range(settings.max_attempts):
        ticket = verdicts.ask()
        try:
            reply = await reply_to(settings, task, run, chat)
        except RequestFailed as fault:
            reason, detail = fault.args
            keep_failure(task.folder, run, task.asked, {"reason": reason, "detail": detail})
            verdicts.note(ticket, reason)
            return 0
        items, reason = classify(reply)
        verdicts.note(ticket, reason or "ok")
        if items:
            write_run(task, run, items, reply)
            return len(items)
        keep_failure(task.folder, run, task.asked, {"reason": reason, "reply": reply})
    return 0


async def reply_to(settings: Settings, task: Task, run: int, chat) -> dict:
    from meme_items import ITEMS_FORMAT
    from phrasebook_source import generation_reply

    if chat is None:
        return generation_reply(task.pairs, task.key, run, settings.items_per_reply)
    return await chat.ask(
        {
            "model": settings.model_id,
            "messages": [{"role": "user", "content": task.prompt}],
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            "response_format": ITEMS_FORMAT,
        }
    )


def write_run(task: Task, run: int, items: list[dict], reply: dict) -> None:
    """Items carry the group that their translations will share: the phrasebook's idea, else the meme itself."""
    from raw_folder import fingerprint, run_name, write_json

    category, label = task.key.rsplit("_", 1)
    ideas = reply["choices"][0]["message"].get("idea_ids") or []
    groups = ideas if len(ideas) == len(items) else [f"{task.folder.name}/{run:04d}#{i}" for i in range(len(items))]
    write_json(
        task.folder / run_name(run),
        {
            "asked": {**task.asked, "run": run, "language": "en", "fingerprint": fingerprint(task.asked)},
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
