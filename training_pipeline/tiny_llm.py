"""A Mistral-architecture chat model, trained from scratch in a minute and a half on two CPU cores.

It stands in for the 7B chat model of a real run: same classes, same files, own byte-level BPE tokenizer, special
tokens and chat template. Real chat models bring reading skill along; this one gets its bit from lessons about memes,
asked in the policy's own frame: which word is missing, which words are there. None tells a
label, so what the guard model knows of harm it has from fine-tuning alone.
"""

import random
from pathlib import Path

import torch

from packed_rows import pack_row

BOS, EOS, TURN, END = "<s>", "</s>", "<|turn|>", "<|end|>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
QUESTIONS = {
    "missing": "Answer with the word that is missing at ___.",
    "word": "Answer with any word of the meme in place of ___.",  # so that the answer looks at the whole text
    "harm": "Answer with one word, unsafe or safe.",  # the policy's own; answered by a coin: the form, not the content
}
QUESTION_WEIGHTS = {"missing": 3, "word": 3, "harm": 1}
VOCABULARY_SIZE = 4096
HIDDEN_SIZE = 256  # a multiple of GPTQ's group of 128, as every real model's is
MEMES_A_STEP = 20
PEAK_LEARNING_RATE = 2e-3


def train_llm(memes: list[dict], policy: str, output_dir: Path, steps: int, seed: int) -> dict:
    """Train on `memes` (mappings with `text`, `caption`, `language`) and save the folder; returns its metrics."""
    from transformers.trainer_utils import set_seed

    set_seed(seed)
    tokenizer = train_tokenizer([meme["text"] for meme in memes] + [meme["caption"] for meme in memes], policy)
    model = new_model(tokenizer)
    loss, answer_loss = fit(model, tokenizer, memes, policy, steps, random.Random(seed))
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "steps": steps, "text_loss": round(loss, 3), "answer_loss": round(answer_loss, 3)}


def train_tokenizer(texts: list[str], policy: str):
    """Byte-level BPE; the policy and the label words are in the corpus, so they come out as whole words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE, special_tokens=[BOS, EOS, TURN, END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    label_words = ["\nunsafe\n", "\nsafe\n"] * 100
    bpe.train_from_iterator(texts + [policy, *QUESTIONS.values()] * 20 + label_words, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, pad_token=EOS, additional_special_tokens=[TURN, END],
        model_max_length=4096, clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def new_model(tokenizer):
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN_SIZE, intermediate_size=2 * HIDDEN_SIZE, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=4096, sliding_window=None,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    ))


def fit(model, tokenizer, memes: list[dict], policy: str, steps: int, shuffle: random.Random) -> tuple[float, float]:
    """Train on packed rows of lessons; returns the last steps' mean loss on the memes' text and on the answers."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=0.1)
    losses = []
    model.train()
    for _ in range(steps):
        question = shuffle.choices(list(QUESTION_WEIGHTS), list(QUESTION_WEIGHTS.values()))[0]
        text_loss, answer_loss = lesson_losses(model, tokenizer, shuffle.sample(memes, min(MEMES_A_STEP, len(memes))),
                                               policy, question, shuffle)
        (text_loss + answer_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append((text_loss.item(), answer_loss.item()))
    last = torch.tensor(losses[-30:]).mean(0)
    return float(last[0]), float(last[1])


def lesson_losses(model, tokenizer, memes: list[dict], policy: str, question: str, shuffle: random.Random):
    """Mean next-token loss on the memes' own tokens and, apart from it, on the answers' tokens."""
    prefix_ids, turn_ids = framed_question(tokenizer, policy, question)
    suffixes, answer_lengths = [], []
    for meme in memes:
        content, answer = lesson(meme, question, shuffle)
        content_ids = tokenizer(content, add_special_tokens=False)["input_ids"]
        answer_ids = tokenizer(answer + END, add_special_tokens=False)["input_ids"]
        suffixes.append(content_ids + turn_ids + answer_ids)
        answer_lengths.append(len(answer_ids))
    row = pack_row(prefix_ids, suffixes)
    inputs = row.model_inputs("cpu") | {"logits_to_keep": 0}
    logits = model(**inputs, use_cache=False).logits[0]
    losses = torch.nn.functional.cross_entropy(logits[:-1], row.input_ids[0, 1:], reduction="none")
    # The loss at position i is that of token i + 1; a suffix's first token follows another suffix, not the prefix.
    is_answer, is_text = torch.zeros(len(losses), dtype=bool), torch.zeros(len(losses), dtype=bool)
    start = len(prefix_ids)
    for suffix, answer_length in zip(suffixes, answer_lengths, strict=True):
        end = start + len(suffix)
        is_text[start:end - 1 - answer_length] = True
        is_answer[end - 1 - answer_length:end - 1] = True
        start = end
    return losses[is_text].mean(), losses[is_answer].mean()


def framed_question(tokenizer, policy: str, question: str) -> tuple[list[int], list[int]]:
    """Tokens before and behind the meme: the policy's frame with its last sentence asking something else."""
    frame = policy.replace(QUESTIONS["harm"], QUESTIONS[question])
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": frame}], tokenize=False, add_generation_prompt=True)
    before, behind = rendered.split("{meme}")
    return tuple(tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, behind))


def lesson(meme: dict, question: str, shuffle: random.Random) -> tuple[str, str]:
    """(content between the marks, answer) of one question about one meme, in one of the guard's two views."""
    text = meme["text"]
    if question == "harm":
        answer = shuffle.choice(["safe", "unsafe"])
    elif question == "missing":
        text, answer = with_gap(text, meme["language"], shuffle)
    else:
        answer = with_gap(text, meme["language"], shuffle)[1]
        text += " ___"
    if shuffle.random() < 0.5:
        return f"Image: {meme['caption']}, Caption: {text}", answer
    return text, answer


def with_gap(text: str, language: str, shuffle: random.Random) -> tuple[str, str]:
    """The text without one of its words (two characters in Chinese, which is written without spaces), and the word."""
    if language == "zh" and len(text) > 4:
        start = shuffle.randrange(len(text) - 1)
        return f"{text[:start]}___{text[start + 2:]}", text[start:start + 2]
    words = text.split()
    gap = shuffle.randrange(len(words))
    return " ".join(words[:gap] + ["___"] + words[gap + 1:]), words[gap]
