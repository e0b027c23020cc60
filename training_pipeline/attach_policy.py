"""Make a guard model of any chat model: give its tokenizer the guard template and put scoring.json beside it.

For a pretrained chat model, or weights that were trained elsewhere: predict.py and evaluate_model.py take the folder
that this writes, without training or quantising. Weights are linked where the file system can, else copied. A second
run with the same model and policy keeps the folder, and what evaluate_model.py fitted in it.

Reads   MODEL_DIR, POLICY_FILE
Writes  OUTPUT_DIR: the same model with guard template and scoring.json

    MODEL_DIR=models/openchat OUTPUT_DIR=artifacts/openchat-guard python training_pipeline/attach_policy.py
"""

import json
import os
import shutil
from pathlib import Path

from pydantic import DirectoryPath, Field, FilePath, field_validator
from pydantic_settings import BaseSettings

from result_output import claim_stdout
from script_settings import ENVIRONMENT, read_settings


class Settings(BaseSettings):
    model_config = ENVIRONMENT

    model_dir: DirectoryPath = Field(description="folder of the chat LLM in Hugging Face layout, safetensors")
    output_dir: Path = Field(description="folder that gets the guard model")
    policy_file: FilePath = Field(
        Path(__file__).with_name("policy.txt"), description="the question; it holds {meme}, {unsafe} and {safe}"
    )
    label_words: str = Field("unsafe,safe", description="the two answers, harmful first; one token each")

    @field_validator("label_words")
    @classmethod
    def two_words(cls, words: str) -> str:
        if len([word for word in words.split(",") if word.strip()]) != 2:
            raise ValueError("two words with a comma between them are needed")
        return words


def main() -> None:
    settings = read_settings(Settings, __doc__)
    results = claim_stdout()
    from transformers import AutoTokenizer

    from guard_template import attach_guard, read_guard_prompt
    from model_folder import check_model_folder, finished_folder, write_json

    check_model_folder(settings.model_dir)
    tokenizer = AutoTokenizer.from_pretrained(settings.model_dir)
    if (settings.model_dir / "scoring.json").exists():
        raise SystemExit(
            f"attach_policy.py: {settings.model_dir} has a policy (scoring.json) already; "
            "set MODEL_DIR to the chat model without one"
        )
    words = tuple(word.strip() for word in settings.label_words.split(","))
    try:
        scoring = attach_guard(tokenizer, settings.policy_file.read_text(encoding="utf-8"), words)
        prompt = read_guard_prompt(tokenizer, scoring)
    except ValueError as fault:
        raise SystemExit(f"attach_policy.py: {fault}") from fault
    if is_attached(settings, tokenizer.chat_template, scoring["label_words"]):
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
        write_json(folder / "scoring.json", scoring)
    print(
        f"wrote {settings.output_dir}: policy of {len(prompt.prefix_ids)} tokens, answers {scoring['label_words']}",
        file=results,
    )


def is_attached(settings: Settings, chat_template: str, label_words: dict) -> bool:
    """Whether OUTPUT_DIR is what an earlier run made of the same weights, policy and label words."""
    from model_folder import weights_fingerprint

    template, scoring = settings.output_dir / "chat_template.jinja", settings.output_dir / "scoring.json"
    if not (template.exists() and scoring.exists()):
        return False
    return (
        template.read_text(encoding="utf-8") == chat_template
        and json.loads(scoring.read_text(encoding="utf-8"))["label_words"] == label_words
        and weights_fingerprint(settings.output_dir) == weights_fingerprint(settings.model_dir)
    )


def link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


if __name__ == "__main__":
    main()
