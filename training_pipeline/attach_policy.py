"""Make a guard model of any chat model: give its tokenizer the guard template and put scoring.json beside it.

For a pretrained chat model, or weights that were trained elsewhere: predict.py and evaluate_model.py take the folder
that this writes, without training or quantising. Weights are linked where the file system can, else copied. A second
run with the same model and policy keeps the folder, and what evaluate_model.py fitted in it.

Reads   MODEL_DIR, POLICY_FILE
Writes  OUTPUT_DIR: the same model with guard template and scoring.json

    MODEL_DIR=models/openchat OUTPUT_DIR=artifacts/openchat-guard python training_pipeline/attach_policy.py
"""

from pathlib import Path

from pydantic import DirectoryPath, Field, FilePath, field_validator

from guard.model_folder import (
    MAX_TEXT_TOKENS,
    SCORING_FILE,
    Scoring,
    check_model_folder,
    read_scoring,
    weights_fingerprint,
)
from guard.output_files import claim_stdout, finished_folder, link_or_copy, write_json
from guard.script_settings import ScriptSettings
from guard.template import LABEL_WORDS, POLICY_FILE, attach_guard, read_guard_prompt


class Settings(ScriptSettings):
    model_dir: DirectoryPath = Field(description="folder of the chat LLM in Hugging Face layout, safetensors")
    output_dir: Path = Field(description="folder that gets the guard model")
    policy_file: FilePath = Field(POLICY_FILE, description="the question; it holds {meme}, {unsafe} and {safe}")
    label_words: str = Field(
        ",".join(LABEL_WORDS), description="the two answers, harmful first; they must begin with different tokens"
    )
    max_text_tokens: int = Field(
        MAX_TEXT_TOKENS, ge=8, description="token limit of a view, kept in scoring.json; longer texts are cut"
    )

    @field_validator("label_words")
    @classmethod
    def two_words(cls, words: str) -> str:
        if len([word for word in words.split(",") if word.strip()]) != 2:
            raise ValueError("two words with a comma between them are needed")
        return words


def main() -> None:
    settings = Settings.read(__doc__)
    results = claim_stdout()
    from transformers import AutoTokenizer

    from guard.servable import unservable

    check_model_folder(settings.model_dir)
    if reason := unservable(settings.model_dir):
        raise SystemExit(
            f"attach_policy.py: MODEL_DIR={settings.model_dir} cannot be served by predict.py: {reason}; take another "
            "chat model"
        )
    tokenizer = AutoTokenizer.from_pretrained(settings.model_dir)
    if (settings.model_dir / SCORING_FILE).exists():
        raise SystemExit(
            f"attach_policy.py: {settings.model_dir} has a policy (scoring.json) already; "
            "set MODEL_DIR to the chat model without one"
        )
    unsafe, safe = (word.strip() for word in settings.label_words.split(",") if word.strip())
    policy = settings.policy_file.read_text(encoding="utf-8")
    try:
        scoring = attach_guard(tokenizer, policy, (unsafe, safe), settings.max_text_tokens)
        prompt = read_guard_prompt(tokenizer, scoring)
        is_there = is_attached(settings, tokenizer.chat_template, scoring)
    except ValueError as error:
        raise SystemExit(f"attach_policy.py: {error}") from error
    if is_there:
        print(f"kept {settings.output_dir}, which has this model and this policy already", file=results)
        return
    with finished_folder(settings.output_dir) as folder:
        for path in sorted(settings.model_dir.iterdir()):
            if path.is_file():
                link_or_copy(path, folder / path.name)
        # save_pretrained must not write through a link into the source folder.
        for path in folder.glob("*token*"):
            path.unlink()
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        tokenizer.save_pretrained(folder)
        write_json(folder / SCORING_FILE, scoring)
    print(
        f"wrote {settings.output_dir}: policy of {len(prompt.prefix_ids)} tokens, answers {scoring['label_words']}",
        file=results,
    )


def is_attached(settings: Settings, chat_template: str, scoring: Scoring) -> bool:
    """Whether OUTPUT_DIR is what an earlier run made of the same weights, policy, label words and token limit."""
    template, former = settings.output_dir / "chat_template.jinja", read_scoring(settings.output_dir)
    if not former or not template.exists():
        return False
    return (
        template.read_text(encoding="utf-8") == chat_template
        and former["label_words"] == scoring["label_words"]
        and former["max_text_tokens"] == scoring["max_text_tokens"]
        and weights_fingerprint(settings.output_dir) == weights_fingerprint(settings.model_dir)
    )


if __name__ == "__main__":
    main()
