"""Make a guard model of any chat model: give its tokenizer the guard template and put scoring.json beside it.

For a pretrained chat model, or weights that were trained elsewhere: predict.py and evaluate_model.py take the folder
that this writes, without training or quantising. Weights are linked where the file system can, else copied; tokenizer
files are copied as they are. Where the template holds today's date, it gets one day for good. A second run with the
same model and policy keeps the folder, and what evaluate_model.py fitted in it.

What is asked is printed: the tokens of the two labels, the last tokens before them and, for weights of up to 1 GB, how
much of the model's probability the labels have together. A small share means that it would answer something else.

Reads   MODEL_DIR, POLICY_FILE
Writes  OUTPUT_DIR: the same model with guard template and scoring.json

    MODEL_DIR=models/openchat OUTPUT_DIR=artifacts/openchat-guard python training_pipeline/attach_policy.py
"""

from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pydantic import DirectoryPath, Field, FilePath, field_validator

from guard.attaching import CATEGORIES, CHAT_TEMPLATES, LABEL_WORDS, POLICY_FILE, attach_guard
from guard.model_folder import (
    MAX_TEXT_TOKENS,
    SCORING_FILE,
    Scoring,
    check_model_folder,
    is_quantised,
    load_guard_model,
    read_scoring,
    share_cpus,
    weights_fingerprint,
)
from guard.output_files import claim_stdout, finished_folder, link_or_copy, write_json
from guard.script_settings import ScriptSettings
from guard.template import SAMPLE_MEMES, GuardPrompt, describe_question, encode_memes, read_guard_prompt
from guard.tokenizer_files import TEMPLATE_FILE, hand_over, tokenizer_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Larger models take longer to load than a policy takes to attach; train_model.py and evaluate_model.py tell theirs.
LARGEST_SHARE_MEASURED = 1e9


class Settings(ScriptSettings):
    model_dir: DirectoryPath = Field(description="folder of the chat LLM in Hugging Face layout, safetensors")
    output_dir: Path = Field(description="folder that gets the guard model")
    policy_file: FilePath = Field(
        POLICY_FILE, description="the question; it holds {meme}, {unsafe}, {safe} and perhaps {categories}"
    )
    label_words: str = Field(
        ",".join(LABEL_WORDS), description="the two answers, harmful first; they must begin with different tokens"
    )
    categories: str = Field(
        ",".join(CATEGORIES),
        description="what people are attacked for, with commas: where the policy has {categories}, the answer's second "
        "word; they must begin with different tokens",
    )
    chat_template: str | None = Field(
        None,
        description="chat template in place of the model's, for a base model that has none: a file, or one of "
        f"{', '.join(CHAT_TEMPLATES)}",
    )
    max_text_tokens: int = Field(
        MAX_TEXT_TOKENS, ge=8, description="token limit of a view, kept in scoring.json; longer texts are cut"
    )

    latin_tamil: bool = Field(
        False, description="1: a meme's Tamil is asked in Latin letters, for a tokenizer that has no tokens for Tamil"
    )

    @field_validator("label_words")
    @classmethod
    def two_words(cls, words: str) -> str:
        if len([word for word in words.split(",") if word.strip()]) != 2:
            raise ValueError("two words with a comma between them are needed")
        return words

    @field_validator("chat_template")
    @classmethod
    def file_or_name(cls, template: str | None) -> str | None:
        if template is not None and template not in CHAT_TEMPLATES and not Path(template).is_file():
            raise ValueError(f"neither a file nor one of {', '.join(CHAT_TEMPLATES)}")
        return template


def main() -> None:
    settings = Settings.read(__doc__)
    results = claim_stdout()
    share_cpus()
    from guard.servable import unservable

    check_model_folder(settings.model_dir)
    if reason := unservable(settings.model_dir):
        raise SystemExit(
            f"attach_policy.py: MODEL_DIR={settings.model_dir} cannot be served by predict.py: {reason}; take another "
            "chat model"
        )
    if (settings.model_dir / SCORING_FILE).exists():
        raise SystemExit(
            f"attach_policy.py: {settings.model_dir} has a policy (scoring.json) already; "
            "set MODEL_DIR to the chat model without one"
        )
    try:
        prompt, scoring = attached_prompt(settings)
        if is_attached(settings, str(prompt.tokenizer.chat_template), scoring):
            print(f"kept {settings.output_dir}, which has this model and this policy already", file=results)
            return
        with finished_folder(settings.output_dir) as folder:
            write_guard_model(settings.model_dir, folder, prompt, scoring)
    except ValueError as error:
        raise SystemExit(f"attach_policy.py: MODEL_DIR={settings.model_dir}: {error}") from error
    print(
        f"wrote {settings.output_dir}: policy of {len(prompt.prefix_ids)} tokens, answers {scoring['label_words']}; "
        f"{describe_question(prompt)}",
        file=results,
    )
    tell_share(settings.output_dir, prompt, results)


def attached_prompt(settings: Settings) -> tuple[GuardPrompt, Scoring]:
    """What will be asked; ValueError, with the remedy, where the tokenizer cannot ask it."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(settings.model_dir)
    if settings.chat_template is not None:
        named = CHAT_TEMPLATES.get(settings.chat_template)
        tokenizer.chat_template = named or Path(settings.chat_template).read_text(encoding="utf-8")
    unsafe, safe = (word.strip() for word in settings.label_words.split(",") if word.strip())
    policy = settings.policy_file.read_text(encoding="utf-8")
    categories = tuple(name.strip() for name in settings.categories.split(",") if name.strip())
    scoring = attach_guard(
        tokenizer, policy, (unsafe, safe), settings.max_text_tokens, categories, settings.latin_tamil
    )
    return read_guard_prompt(tokenizer, scoring), scoring


def write_guard_model(model_dir: Path, folder: Path, prompt: GuardPrompt, scoring: Scoring) -> None:
    """Everything of the model, with the guard's question in place of its chat template."""
    tokenizer = tokenizer_files(model_dir)
    for path in sorted(model_dir.iterdir()):
        if path.is_file() and path not in tokenizer and path.name != TEMPLATE_FILE:
            link_or_copy(path, folder / path.name)
    hand_over(prompt, scoring, model_dir, folder)
    write_json(folder / SCORING_FILE, scoring)


def is_attached(settings: Settings, chat_template: str, scoring: Scoring) -> bool:
    """Whether OUTPUT_DIR is what an earlier run made of the same weights, policy, label words and token limit."""
    template, former = settings.output_dir / TEMPLATE_FILE, read_scoring(settings.output_dir)
    if not former or not template.exists():
        return False
    return (
        template.read_text(encoding="utf-8") == chat_template
        and former["label_words"] == scoring["label_words"]
        and former.get("categories") == scoring.get("categories")
        and former["max_text_tokens"] == scoring["max_text_tokens"]
        and weights_fingerprint(settings.output_dir) == weights_fingerprint(settings.model_dir)
    )


def tell_share(model_dir: Path, prompt: GuardPrompt, results: TextIO) -> None:
    """How much of the model's probability the labels have together on a few memes; a warning where it is little."""
    size = sum(path.stat().st_size for path in model_dir.glob("*.safetensors"))
    if size > LARGEST_SHARE_MEASURED or is_quantised(model_dir):
        print("what share of the probability the labels have, evaluate_model.py tells of this model", file=results)
        return
    from guard.scores import label_share, share_sentence

    model = load_guard_model(model_dir, "auto")
    print(share_sentence(label_share(model, prompt, encode_memes(prompt, SAMPLE_MEMES))), file=results)


if __name__ == "__main__":
    main()
