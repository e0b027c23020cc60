"""A Mistral-architecture chat model, trained from scratch in about a minute on two CPU cores.

It stands in for the 7B chat model of a real run: same classes, same files, own byte-level BPE tokenizer, special
tokens and chat template. It learns to continue memes and to answer simple questions about them, never their labels.
"""

import random
from pathlib import Path

import torch

BOS, EOS, TURN, END = "<s>", "</s>", "<|turn|>", "<|end|>"
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|turn|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
LANGUAGE_NAMES = {"en": "English", "zh": "Chinese", "ms": "Malay", "ta": "Tamil"}
VOCABULARY_SIZE = 6144
HIDDEN_SIZE = 256  # a multiple of GPTQ's group of 128, as every real model's is
SEQUENCE_LENGTH = 128
BATCH_SEQUENCES = 16
PEAK_LEARNING_RATE = 3e-3


def train_llm(memes: list[dict], policy: str, output_dir: Path, steps: int, seed: int) -> dict:
    """Train on `memes` (mappings with `text`, `caption`, `language`) and save the folder; returns its metrics."""
    from transformers.trainer_utils import set_seed

    set_seed(seed)
    tokenizer = train_tokenizer([meme["text"] for meme in memes] + [meme["caption"] for meme in memes], policy)
    chats = chat_examples(tokenizer, memes, policy, random.Random(seed))
    tokens = torch.tensor([token for chat in chats for token in tokenizer(chat, add_special_tokens=False)["input_ids"]])
    model = new_model(tokenizer)
    loss = fit(model, tokens, steps)
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "corpus_tokens": len(tokens), "steps": steps, "final_loss": round(loss, 3)}


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
    bpe.train_from_iterator(texts + [policy] * 20 + label_words, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=BOS, eos_token=EOS, pad_token=EOS, additional_special_tokens=[TURN, END],
        model_max_length=2048, clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def chat_examples(tokenizer, memes: list[dict], policy: str, shuffle: random.Random) -> list[str]:
    """Conversations about the memes, none of which tells a label.

    Besides writing memes and naming their language and picture, the model answers whether a given word occurs in
    one: an answer that it can only give by looking back over the whole text, as the guard's question asks it to.
    """
    words = sorted({word for meme in memes for word in meme["text"].split()})
    chats = []
    for meme in memes:
        text, caption = meme["text"], meme["caption"]
        both = f"<meme>\nImage: {caption}, Caption: {text} </meme>"
        asked = shuffle.choice(text.split() if shuffle.random() < 0.5 else words)
        chats += [
            (f"Write a meme in {LANGUAGE_NAMES[meme['language']]}.", text),
            (f"Which language is this?\n<meme>\n{text} </meme>", LANGUAGE_NAMES[meme["language"]]),
            (f"What does the picture show?\n{both}", caption),
            (f"Does the text contain \"{asked}\"?\n{both}", "yes" if asked in text.split() else "no"),
        ]
    chats += [(policy.replace("{meme}", meme["text"]), shuffle.choice(["safe", "unsafe"])) for meme in memes[:40]]
    shuffle.shuffle(chats)
    return [tokenizer.apply_chat_template(
        [{"role": "user", "content": question}, {"role": "assistant", "content": answer}], tokenize=False
    ) for question, answer in chats]


def new_model(tokenizer):
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(
        vocab_size=len(tokenizer), hidden_size=HIDDEN_SIZE, intermediate_size=2 * HIDDEN_SIZE, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096, sliding_window=None,
        tie_word_embeddings=True, rope_theta=10000.0, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    ))


def fit(model, tokens: torch.Tensor, steps: int) -> float:
    """Next-token training on random windows of the token stream; returns the mean loss of the last ten steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=0.1)
    losses = []
    model.train()
    for _ in range(steps):
        starts = torch.randint(len(tokens) - SEQUENCE_LENGTH, (BATCH_SEQUENCES, 1))
        batch = tokens[starts + torch.arange(SEQUENCE_LENGTH)]
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return sum(losses[-10:]) / len(losses[-10:])
