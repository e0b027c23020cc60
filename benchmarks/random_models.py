"""Model folders of a given size with random weights, made on the spot: speed does not depend on training."""

import json
import os
import shutil
import string
import sys
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLIP_VOCABULARY = 30_524
LLM_SIZES = {  # hidden, intermediate, layers, heads, key-value heads
    "tiny": (256, 512, 3, 4, 2),
    "56m": (512, 1408, 8, 8, 2),
    "100m": (768, 2048, 12, 12, 4),
    "135m": (576, 1536, 30, 9, 3),  # SmolLM2's shape
    "7b": (4096, 14336, 32, 32, 8),
}
BLIP_SIZES = {"tiny": (64, 2, 2, 96), "base": (768, 12, 12, 384)}  # hidden, layers, heads, image side


def save_random_llm(folder: Path, size: str, dtype: str) -> None:
    """A Mistral guard model with the project's own policy, template and tokenizer training, without categories."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    sys.path.insert(0, str(ROOT / "training_pipeline"))
    from guard.attaching import attach_guard
    from tiny.llm import train_tokenizer

    ideas = [
        json.loads(line)
        for path in sorted((ROOT / "data_preparation/phrasebook").glob("*/*.jsonl"))
        for line in path.open(encoding="utf-8")
    ]
    policy = (ROOT / "training_pipeline/policy.txt").read_text(encoding="utf-8")
    tokenizer = train_tokenizer([idea[language] for idea in ideas for language in ("en", "zh", "ms", "ta")], policy)
    scoring = attach_guard(tokenizer, policy, ("unsafe", "safe"))
    hidden, intermediate, layers, heads, key_heads = LLM_SIZES[size]
    torch.manual_seed(0)
    torch.set_default_dtype(getattr(torch, dtype))
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=32_000,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=key_heads,
            sliding_window=None,
            max_position_embeddings=8192,
        )
    )
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "scoring.json").write_text(json.dumps({**scoring, "categories": {}}), encoding="utf-8")


def save_with_categories(folder: Path, source: Path, count: int) -> None:
    """The same model, weights linked, asked for so many categories: the first words that are one token each."""
    from transformers import AutoTokenizer

    shutil.copytree(source, folder, copy_function=os.link)
    scoring = json.loads((source / "scoring.json").read_text(encoding="utf-8"))
    tokenizer, label = AutoTokenizer.from_pretrained(source), scoring["label_words"]["offensive"]
    texts = (tokenizer.decode([token]) for token in range(len(tokenizer)))
    words = (text for text in texts if text[:1] == " " and text[1:].isascii() and text[1:].isalpha() and len(text) > 3)
    fitting = (word for word in words if len(tokenizer.tokenize(label + word)) == len(tokenizer.tokenize(label)) + 1)
    scoring["categories"] = {word.strip(): word for word in islice(fitting, count)}
    (folder / "scoring.json").unlink()  # a link to the other model's
    (folder / "scoring.json").write_text(json.dumps(scoring), encoding="utf-8")


def short_syllables() -> list[str]:
    vowels = "aeiou"
    return [a + b + c for a in vowels for b in string.ascii_lowercase for c in ["", *string.ascii_lowercase]]


def save_random_captioner(folder: Path, size: str) -> None:
    """A BLIP captioner; with random weights it never stops early, so every caption has the full length."""
    import torch
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessorPil,
        BlipProcessor,
    )

    hidden, layers, heads, side = BLIP_SIZES[size]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"]
    # Short words: a caption of twenty then costs the chat model some forty tokens, no more than a real one does.
    letters = (first + second for first in string.ascii_lowercase for second in short_syllables())
    words += list(islice(letters, BLIP_VOCABULARY - len(words)))
    tokenizer = BertTokenizerFast(vocab={word: number for number, word in enumerate(words)}, bos_token="[DEC]")
    shape = {
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }
    text = {
        **shape,
        "vocab_size": BLIP_VOCABULARY,
        "encoder_hidden_size": hidden,
        "bos_token_id": 5,
        "sep_token_id": 3,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    config = BlipConfig(text_config=text, vision_config={**shape, "image_size": side, "patch_size": 16})
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessorPil(size={"height": side, "width": side}), tokenizer).save_pretrained(folder)
