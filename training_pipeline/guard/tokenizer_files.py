"""Handing a tokenizer on from folder to folder: its files as they are, the guard template beside them.

A library's own saving writes what it has understood: `legacy` may be lost on the way, or a class that reads the same
files otherwise. A model would then be asked in other tokens than it was trained on, which nobody would notice. So the
files are copied, and the folder is read anew and must give the very ids of the prompt.
"""

import json
import shutil
from pathlib import Path

from guard.model_folder import Scoring
from guard.output_files import write_json
from guard.template import PROBES, GuardPrompt, encode_view, read_guard_prompt

TEMPLATE_FILE = "chat_template.jinja"
CONFIG_FILE = "tokenizer_config.json"
# What the families of tokenizers lie in.
TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.tiktoken",
    "spiece.model",
    "sentencepiece*.model",
    "tekken.json",
)
TEMPLATE_FILES = (TEMPLATE_FILE, "chat_template.json", "additional_chat_templates")


def tokenizer_files(folder: Path) -> list[Path]:
    """The files that a tokenizer is read from, without chat templates."""
    return sorted({path for pattern in TOKENIZER_FILES for path in folder.glob(pattern) if path.is_file()})


def carry_tokenizer(source: Path, folder: Path, chat_template: str) -> None:
    """Have `folder` hold the tokenizer files of `source`, and no chat template but this one."""
    remove_tokenizer(folder)
    for path in tokenizer_files(source):
        shutil.copyfile(path, folder / path.name)
    config = folder / CONFIG_FILE
    if config.exists():
        settings = json.loads(config.read_text(encoding="utf-8"))
        # Programs that do not know chat_template.jinja would ask the plain chat model's question.
        if settings.pop("chat_template", None) is not None:
            write_json(config, settings)
    (folder / TEMPLATE_FILE).write_text(chat_template, encoding="utf-8")


def remove_tokenizer(folder: Path) -> None:
    """Remove tokenizer files and chat templates, so that a link into another folder is never written through."""
    for path in tokenizer_files(folder) + [folder / name for name in TEMPLATE_FILES]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def hand_over(prompt: GuardPrompt, scoring: Scoring, source: Path, folder: Path) -> None:
    """Give the model in `folder` the tokenizer of `source` and the prompt's question; ValueError if it came out other.

    `prompt` is what is asked so far, with the tokenizer of `source`.
    """
    carry_tokenizer(source, folder, chat_template_of(prompt))
    if not asks_alike(prompt, scoring, folder):
        raise ValueError(
            f"read from the new folder, the tokenizer of {source} gives other tokens of the same prompt: its files "
            "contradict one another (tokenizer_config.json, tokenizer.json); take them anew from the model's source"
        )


def hand_over_adapter(prompt: GuardPrompt, scoring: Scoring, source: Path, folder: Path) -> None:
    """Give an adapter's folder the question, and the tokenizer where that reads alike without the base's config.json.

    Which class reads a tokenizer depends on the model's type for some (Mistral's of Llama's class). An adapter without
    tokenizer takes the base's.
    """
    carry_tokenizer(source, folder, chat_template_of(prompt))
    if not asks_alike(prompt, scoring, folder):
        remove_tokenizer(folder)
        (folder / TEMPLATE_FILE).write_text(chat_template_of(prompt), encoding="utf-8")


def asks_alike(prompt: GuardPrompt, scoring: Scoring, folder: Path) -> bool:
    """Whether the tokenizer in `folder` makes the same ids of policy, question, labels and probes."""
    from transformers import AutoTokenizer

    try:
        found = read_guard_prompt(AutoTokenizer.from_pretrained(folder), scoring)
    except (OSError, ValueError):
        return False
    return question_ids(found) == question_ids(prompt)


def question_ids(prompt: GuardPrompt) -> list[list[int]]:
    """Every id that the prompt brings along, and those of a few texts in it."""
    around = [prompt.prefix_ids, prompt.suffix_ids, list(prompt.label_token_ids)]
    return around + [encode_view(prompt, probe, prompt.max_text_tokens)[0] for probe in PROBES]


def chat_template_of(prompt: GuardPrompt) -> str:
    return str(prompt.tokenizer.chat_template)
