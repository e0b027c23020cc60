"""Packed against padded steps over batch size, suffix and policy length, for bench_training.py: a JSON task in,
a JSON line a shape out.

Both go through the same NF4 model with LoRA (train_model.py's) and through the LM head at the answer positions alone,
so that the ratio is that of the packing; its bound, were time the number of tokens, is B(P+S) / (P+B*S).
"""

import json
import sys
import time

from training_sides import VOCABULARY, load, random_rows

# (B, S, P): each of the three varied around the middle.
SHAPES = (
    [(batch, 40, 250) for batch in (2, 4, 8, 16, 32)]
    + [(16, suffix, 250) for suffix in (10, 20, 80)]
    + [(16, 40, prefix) for prefix in (60, 125, 500)]
)
QUICK_SHAPES = [(4, 20, 100), (8, 20, 100)]


def main() -> None:
    from guard.output_files import claim_stdout

    results = claim_stdout()
    task = json.loads(sys.argv[1])
    model, prompt, *_ = load(task)
    model.train()
    shapes = QUICK_SHAPES if task["quick"] else SHAPES
    measure(model, prompt, *shapes[0], repeats=1)  # warms up
    for shape in shapes:
        print(json.dumps(measure(model, prompt, *shape, repeats=task["repeats"])), file=results, flush=True)


def token_bound(batch: int, suffix: int, prefix: int) -> float:
    """Tokens of padded rows over tokens of the packed row."""
    return batch * (prefix + suffix) / (prefix + batch * suffix)


def measure(model, prompt, batch: int, suffix: int, prefix: int, repeats: int) -> dict:
    """Least processor time (all threads, seconds) of `repeats` forward and backward passes each, taken in turns."""
    import dataclasses

    import torch

    from guard.suffix_attention import attends_by_suffix
    from guard.template import EncodedMeme
    from training.packed_trainer import RowCollator

    prefix_ids, suffixes = random_rows(prefix, [suffix] * batch)
    memes = [EncodedMeme([ids], number % 2, 0) for number, ids in enumerate(suffixes)]
    prompt = dataclasses.replace(prompt, prefix_ids=prefix_ids)
    seconds = {True: [], False: []}
    for _ in range(repeats):
        for packed in (True, False):
            begun = time.process_time()
            step(model, RowCollator(prompt, torch.float32, packed, attends_by_suffix(model))(memes))
            seconds[packed].append(time.process_time() - begun)
    fast, slow = min(seconds[True]), min(seconds[False])
    return {
        "batch": batch,
        "suffix": suffix,
        "prefix": prefix,
        "packed_s": fast,
        "padded_s": slow,
        "gain": slow / fast,
        "bound": token_bound(batch, suffix, prefix),
    }


def step(model, inputs: dict) -> None:
    import torch

    labels = inputs.pop("labels")
    inputs.pop("views")
    logits = model(**inputs, use_cache=False).logits.reshape(-1, VOCABULARY)
    torch.nn.functional.cross_entropy(logits, labels).backward()
    model.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
