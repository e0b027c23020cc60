"""One way of training in a process of its own, for bench_training.py: a JSON task in, a JSON line a round out.

The sides differ in the trainer alone: same NF4 base, LoRA settings, rows, order, optimizer and threads.

    ours               PackedTrainer, the policy once a batch
    qlora              PackedTrainer on the base as bitsandbytes and peft make it, in float32: 4-bit weights unpacked at
                       every step, a mask in the place of attention by suffix
    padded             PackedTrainer with PACKED_ROWS=0: one example a row, LM head at the answer positions
    trl                TRL's SFTTrainer, completion-only loss, one example a row
    trl-padding-free   the same with padding_free=True: all rows of a batch in one, the policy in each of them
    trl-packing        the same with packing=True (best fit, twice the longest row): as many rows a step
"""

import dataclasses
import gc
import json
import os
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
sys.path.insert(0, str(ROOT / "training_pipeline"))

VOCABULARY = 32_000
FIRST_ID = 10  # below are special tokens


def main() -> None:
    from guard.output_files import claim_stdout

    results = claim_stdout()
    task = json.loads(sys.argv[1])
    train = side(task)
    print(json.dumps({"ready": task["side"]}), file=results, flush=True)
    for _ in sys.stdin:  # a line asks for a round
        print(json.dumps(train()), file=results, flush=True)


def random_rows(prefix_length: int, suffix_lengths: list[int], seed: int = 0) -> tuple[list[int], list[list[int]]]:
    """(prefix ids, suffixes) of random tokens: speed and memory do not depend on what they say."""
    draw = random.Random(seed)
    prefix, *suffixes = (
        [draw.randrange(FIRST_ID, VOCABULARY) for _ in range(length)] for length in [prefix_length, *suffix_lengths]
    )
    return prefix, suffixes


def suffix_lengths(task: dict) -> list[int]:
    """As many as there are rows, evenly spread from three to five quarters of SUFFIX_TOKENS, in random order."""
    low, high = task["suffix_tokens"] * 3 // 4, task["suffix_tokens"] * 5 // 4
    lengths = [low + number % (high - low + 1) for number in range(task["batch_size"] * task["steps"])]
    random.Random(1).shuffle(lengths)
    return lengths


def load(task: dict):
    """(model, prompt, memes, type): train_model.py's NF4 base with LoRA, the policy replaced by random tokens."""
    import torch

    from guard.model_folder import compute_dtype
    from guard.template import EncodedMeme, load_guard_prompt
    from train_model import Settings, load_lora_model

    prefix, suffixes = random_rows(task["prefix_tokens"], suffix_lengths(task))
    prompt, _ = load_guard_prompt(Path(task["model_dir"]))
    prompt = dataclasses.replace(prompt, prefix_ids=prefix)
    memes = [EncodedMeme([suffix], number % 2, 0) for number, suffix in enumerate(suffixes)]
    settings = Settings(
        model_dir=task["model_dir"],
        dataset_dir=task["model_dir"],
        output_dir=task["scratch"],
        lora_dropout=task["lora_dropout"],
        seed=1,
        dtype=task["dtype"] if task["side"] == "ours" else "float32",
    )
    if task["side"] == "qlora":
        return as_it_comes(settings), prompt, memes, torch.float32
    return load_lora_model(settings, prompt, memes), prompt, memes, compute_dtype(settings.dtype)


def as_it_comes(settings):
    """QLoRA as peft's documentation puts it together, with train_model.py's settings."""
    import torch
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    torch.manual_seed(settings.seed)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    base = AutoModelForCausalLM.from_pretrained(
        settings.model_dir, quantization_config=quantization, dtype=torch.float32, device_map={"": "cpu"}
    )
    base = prepare_model_for_kbit_training(base, use_gradient_checkpointing=False)
    lora = LoraConfig(
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(base, lora)


def common_arguments(task: dict) -> dict:
    """What both kinds of TrainingArguments are given."""
    return {
        "output_dir": task["scratch"],
        "per_device_train_batch_size": task["batch_size"],
        "max_steps": task["steps"],
        "learning_rate": 2e-4,
        "lr_scheduler_type": "constant",
        "train_sampling_strategy": "sequential",
        "seed": 1,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "logging_steps": task["steps"],
        "report_to": "none",
        "disable_tqdm": True,
    }


def side(task: dict):
    """A function that trains for `steps` steps and returns their figures."""
    model, prompt, memes, dtype = load(task)
    packs = {"ours": True, "qlora": True, "padded": False}
    name = task["side"]
    trainer = (
        packed_trainer(task, model, prompt, memes, dtype, packs[name])
        if name in packs
        else sft_trainer(task, model, prompt, memes)
    )
    losses, marks = watch(trainer)

    def train() -> dict:
        losses.clear(), marks.clear(), gc.collect()
        forget_peak_memory()
        before = resident_megabytes("VmRSS")
        trainer.train()
        # The first step warms up: threads, buffers, the tokenizer's and the allocator's caches.
        seconds, cpu_seconds = (last - first for first, last in zip(marks[0], marks[-1], strict=True))
        rows = task["batch_size"] * (len(marks) - 1)
        return {
            "side": name,
            "first_loss": losses[0],
            "rows_per_second": rows / seconds,
            "rows_per_cpu_second": rows / cpu_seconds,
            "before_mb": before,
            "peak_mb": resident_megabytes("VmHWM"),
        }

    return train


def packed_trainer(task: dict, model, prompt, memes: list, dtype, packed: bool):
    from transformers import TrainingArguments

    from guard.suffix_attention import attends_by_suffix
    from training.packed_trainer import PackedTrainer, RowCollator

    arguments = TrainingArguments(**common_arguments(task), remove_unused_columns=False, label_names=["labels"])
    return PackedTrainer(
        model=model,
        args=arguments,
        prompt=prompt,
        train_dataset=memes,
        data_collator=RowCollator(prompt, dtype, packed, attends_by_suffix(model)),
        processing_class=prompt.tokenizer,
    )


def sft_trainer(task: dict, model, prompt, memes: list):
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [prompt.prefix_ids + meme.suffixes[0] for meme in memes]
    answers = [prompt.label_token_ids[meme.label] for meme in memes]
    # Tokenised rows with labels: what completion-only loss comes to, without a word tokenised otherwise.
    dataset = Dataset.from_list(
        [
            {"input_ids": [*row, answer], "labels": [-100] * len(row) + [answer]}
            for row, answer in zip(rows, answers, strict=True)
        ]
    )
    shape = {"max_length": None, "padding_free": task["side"] == "trl-padding-free"}
    arguments = common_arguments(task)
    if task["side"] == "trl-packing":
        shape = {"packing": True, "max_length": 2 * max(map(len, rows)) + 2}
        arguments["per_device_train_batch_size"] //= 2
    trainer = SFTTrainer(
        model=model, args=SFTConfig(**arguments, **shape), train_dataset=dataset, processing_class=prompt.tokenizer
    )
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)  # SFTTrainer makes an NF4 model's adapters bfloat16
    return trainer


def watch(trainer) -> tuple[list[float], list[tuple[float, float]]]:
    """(losses, (clock, processor time of all threads) at the end of each step), filled while the trainer runs."""
    from transformers import TrainerCallback

    losses, marks = [], []
    training_step = trainer.training_step

    def recorded(*args, **kwargs):
        loss = training_step(*args, **kwargs)
        losses.append(loss.item())
        return loss

    class Marks(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            marks.append((time.perf_counter(), time.process_time()))

    trainer.training_step = recorded
    trainer.add_callback(Marks())
    return losses, marks


def forget_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak is counted anew from here


def resident_megabytes(field: str) -> float:
    """VmRSS (now) or VmHWM (peak since forget_peak_memory), 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


if __name__ == "__main__":
    main()
