"""A Mistral-architecture chat model, trained from scratch in a minute and a half on two CPU cores.

It stands in for the 7B chat model of a real run: same classes, same files, own byte-level BPE tokenizer, special
tokens and chat template. Real chat models bring reading skill along; this one gets its bit from two lessons about memes
in the policy's own frame: to go on with a meme's text, and to answer with the words that it holds, all at once. So the
answer position looks at the whole meme before fine-tuning begins. Neither lesson tells a label: between the two label
words the answer is even, whatever the meme.
"""

import random
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import torch

from guard.chat_text import around
from guard.packed_rows import pack_row

if TYPE_CHECKING:
    from transformers import MistralForCausalLM, PreTrainedTokenizerFast

BOS, EOS, TURN, END = "<s>", "</s>", "<|turn|>", "<|end|>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
LABEL_WORDS_SHARE = 0.3  # of the answer's probability, half for each; the meme's tokens share the rest evenly
VOCABULARY_SIZE = 4096
# GPT-2's way to split into words, but with marks (\p{M}) as letters: else every vowel sign cuts a Tamil word, and a
# Tamil meme is three times as long as the others.
WORDS = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
HIDDEN_SIZE = 256  # a multiple of GPTQ's group of 128, as every real model's is
MEMES_A_STEP = 20
PEAK_LEARNING_RATE = 2e-3


class CaptionedText(TypedDict):
    text: str
    caption: str
    language: str


def train_llm(memes: list[CaptionedText], policy: str, output_dir: Path, steps: int, seed: int) -> dict[str, float]:
    """Train on `memes` and save the folder; returns its metrics."""
    from transformers.trainer_utils import set_seed

    set_seed(seed)
    tokenizer = train_tokenizer([meme["text"] for meme in memes] + [meme["caption"] for meme in memes], policy)
    model = new_model(tokenizer)
    loss, answer_loss = fit(model, tokenizer, memes, policy, steps, random.Random(seed))
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "steps": steps, "text_loss": round(loss, 3), "answer_loss": round(answer_loss, 3)}


def train_tokenizer(texts: list[str], policy: str) -> "PreTrainedTokenizerFast":
    """Byte-level BPE; the policy and the label words are in the corpus, so they come out as whole words."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[BOS, EOS, TURN, END],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    label_words = ["\nunsafe\n", "\nsafe\n"] * 100
    bpe.train_from_iterator(texts + [policy] * 20 + label_words, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=EOS,
        additional_special_tokens=[TURN, END],
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(tokenizer: "PreTrainedTokenizerFast") -> "MistralForCausalLM":
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(
        MistralConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN_SIZE,
            intermediate_size=2 * HIDDEN_SIZE,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=4096,
            sliding_window=None,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def fit(
    model: "MistralForCausalLM",
    tokenizer: "PreTrainedTokenizerFast",
    memes: list[CaptionedText],
    policy: str,
    steps: int,
    shuffle: random.Random,
) -> tuple[float, float]:
    """Train on packed rows; returns the last steps' mean loss on the memes' text and on the answers."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=0.1)
    frame = policy_frame(tokenizer, policy)
    label_ids = [tokenizer.convert_tokens_to_ids(word) for word in ("safe", "unsafe")]
    losses = []
    model.train()
    for _ in range(steps):
        contents = [as_a_view(meme, shuffle) for meme in shuffle.sample(memes, min(MEMES_A_STEP, len(memes)))]
        content_ids = tokenizer(contents, add_special_tokens=False)["input_ids"]
        text_loss, answer_loss = lesson_losses(model, frame, content_ids, label_ids)
        (text_loss + answer_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append((text_loss.item(), answer_loss.item()))
    last = torch.tensor(losses[-30:]).mean(0)
    return float(last[0]), float(last[1])


def policy_frame(tokenizer: "PreTrainedTokenizerFast", policy: str) -> tuple[list[int], list[int]]:
    """Tokens before and behind the meme, up to the answer."""
    before, behind = around(tokenizer, policy, "{meme}")
    return (
        tokenizer(before, add_special_tokens=False)["input_ids"],
        tokenizer(behind, add_special_tokens=False)["input_ids"],
    )


def as_a_view(meme: CaptionedText, shuffle: random.Random) -> str:
    """A meme's content in one of the guard's two views."""
    return meme["text"] if shuffle.random() < 0.5 else f"Image: {meme['caption']}, Caption: {meme['text']}"


def lesson_losses(
    model: "MistralForCausalLM", frame: tuple[list[int], list[int]], content_ids: list[list[int]], label_ids: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean next-token loss on the contents and, apart from it, mean cross-entropy of the answers."""
    before, behind = frame
    row = pack_row(before, [content + behind for content in content_ids])
    logits = model(**row.model_inputs("cpu", torch.float32) | {"logits_to_keep": 0}, use_cache=False).logits[0]
    # Position i predicts token i + 1; the first token of a content follows another meme's, not the policy.
    is_text = torch.zeros(len(logits) - 1, dtype=torch.bool)
    start = len(before)
    for content in content_ids:
        is_text[start : start + len(content) - 1] = True
        start += len(content) + len(behind)
    text_loss = torch.nn.functional.cross_entropy(logits[:-1][is_text], row.input_ids[0, 1:][is_text])
    answers = torch.stack([answer_distribution(content, label_ids, logits.shape[-1]) for content in content_ids])
    return text_loss, torch.nn.functional.cross_entropy(logits[row.answer_positions], answers)


def answer_distribution(content_ids: list[int], label_ids: list[int], vocabulary_size: int) -> torch.Tensor:
    """What the answer should be: any token of the meme, or either label word; shape [V], sums to 1."""
    distribution = torch.zeros(vocabulary_size)
    tokens = sorted(set(content_ids))
    distribution[tokens] = (1 - LABEL_WORDS_SHARE) / len(tokens)
    distribution[label_ids] += LABEL_WORDS_SHARE / 2
    return distribution
