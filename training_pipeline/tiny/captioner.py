"""A BLIP captioner of 1.5 million parameters, trained from scratch on the drawn memes of `render_memes.py`.

It has BLIP's own architecture and processor and is saved as Hugging Face saves the real one, so whoever loads a BLIP
captioner by path loads this one. It names the two dozen objects that it has seen, and nothing else.
Imported by make_tiny_models.py; `main_object_accuracy` measures it on the held-out memes.
"""

import csv
import io
import string
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    BlipProcessor,
)

PICTURE_PIXELS = 96
PATCH_PIXELS = 16
HIDDEN = 128
VISION_LAYERS = 4
TEXT_LAYERS = 2
BATCH = 32
STEPS = 900
PEAK_LEARNING_RATE = 1.5e-3
SHIFT_PIXELS = 6  # each way
LONGEST_CAPTION = 32  # tokens
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]  # the last two are BLIP's own


def train_captioner(train_parquet: Path, output_dir: Path, steps: int = STEPS, seed: int = 1) -> dict[str, float]:
    """Train on the Parquet file's `image` and `caption` columns and save model and processor into `output_dir`.

    Returns {"parameters", "steps", "loss" (mean of the last 50 steps, nats a token), "cpu_seconds"}.
    """
    started = time.process_time()
    torch.manual_seed(seed)
    pictures, captions = read_pictures(train_parquet)
    processor = new_processor(captions)
    model = BlipForConditionalGeneration(captioner_config(processor.tokenizer))
    pixels = pixel_values(processor, pictures)
    ids = caption_ids(processor.tokenizer, captions)
    losses = fit(model, pixels, ids, steps)
    model.save_pretrained(output_dir)
    processor.save_pretrained(output_dir)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "steps": steps,
        "loss": round(float(np.mean(losses[-50:])), 3),
        "cpu_seconds": round(time.process_time() - started),
    }


def read_pictures(train_parquet: Path) -> tuple[list[Image.Image], list[str]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(train_parquet, columns=["image", "caption"]).to_pylist()
    pictures = [Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in table]
    return pictures, [row["caption"] for row in table]


def new_processor(captions: list[str]) -> BlipProcessor:
    """A BLIP processor whose vocabulary is the captions' words, with single characters for any other word."""
    words = sorted({word for caption in captions for word in caption.lower().split()})
    letters = string.ascii_lowercase + string.digits + string.punctuation
    vocabulary = dict.fromkeys([*SPECIAL_TOKENS, *words, *letters, *("##" + letter for letter in letters)])
    tokenizer = BertTokenizerFast(vocab={token: number for number, token in enumerate(vocabulary)})
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    tokenizer.model_max_length = LONGEST_CAPTION
    side = {"height": PICTURE_PIXELS, "width": PICTURE_PIXELS}
    return BlipProcessor(BlipImageProcessorPil(size=side), tokenizer)


def captioner_config(tokenizer: BertTokenizerFast) -> BlipConfig:
    """BLIP's configuration at a small size. Generation starts at [DEC] (bos) and ends at [SEP], as in the real one."""
    ids = {
        name: tokenizer.convert_tokens_to_ids(token)
        for name, token in {
            "bos_token_id": "[DEC]",
            "eos_token_id": "[SEP]",
            "sep_token_id": "[SEP]",
            "pad_token_id": "[PAD]",
        }.items()
    }
    shape = {"hidden_size": HIDDEN, "intermediate_size": 4 * HIDDEN, "num_attention_heads": 4, "projection_dim": 64}
    # BLIP's default initializer_range of 1e-10 suits weights that are loaded, not learnt
    vision = {
        **shape,
        "num_hidden_layers": VISION_LAYERS,
        "image_size": PICTURE_PIXELS,
        "patch_size": PATCH_PIXELS,
        "initializer_range": 0.02,
    }
    text = {
        **shape,
        **ids,
        "num_hidden_layers": TEXT_LAYERS,
        "encoder_hidden_size": HIDDEN,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": LONGEST_CAPTION,
    }
    return BlipConfig(text_config=text, vision_config=vision, image_text_hidden_size=64)


def pixel_values(processor: BlipProcessor, pictures: list[Image.Image]) -> torch.Tensor:
    """(pictures, 3, side, side), float32, normalised."""
    return processor.image_processor(pictures, return_tensors="pt")["pixel_values"]


def caption_ids(tokenizer: BertTokenizerFast, captions: list[str]) -> torch.Tensor:
    """(captions, longest), padded; each begins with [DEC] in place of [CLS], as `generate` does."""
    ids = tokenizer(captions, padding=True, truncation=True, return_tensors="pt")["input_ids"]
    ids[:, 0] = tokenizer.bos_token_id
    return ids


def fit(model: BlipForConditionalGeneration, pixels: torch.Tensor, ids: torch.Tensor, steps: int) -> list[float]:
    """AdamW with one warm-up and cosine cycle on mirrored and shifted pictures. The loss of each step."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    plain = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LEARNING_RATE, total_steps=steps, pct_start=0.15, cycle_momentum=False
    )
    model.train()
    losses, queue = [], torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(queue) < BATCH:
            queue = torch.cat([queue, torch.randperm(len(pixels))])
        rows, queue = queue[:BATCH], queue[BATCH:]
        loss = caption_loss(model, augmented(pixels[rows]), ids[rows])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            print(
                f"captioner: step {step + 1:,} of {steps:,}, loss {np.mean(losses[-100:]):.3f}",
                file=sys.stderr,
                flush=True,
            )
    model.eval()
    return losses


def caption_loss(model: BlipForConditionalGeneration, pixels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    padding = ids == model.config.text_config.pad_token_id
    return model(
        pixel_values=pixels, input_ids=ids, attention_mask=(~padding).long(), labels=ids.masked_fill(padding, -100)
    ).loss


def augmented(pixels: torch.Tensor) -> torch.Tensor:
    """Each picture mirrored or not and shifted by up to SHIFT_PIXELS each way, its edge rows repeated."""
    mirrored = torch.where(torch.rand(len(pixels), 1, 1, 1) < 0.5, pixels.flip(-1), pixels)
    padded = torch.nn.functional.pad(mirrored, [SHIFT_PIXELS] * 4, mode="replicate")
    side = pixels.shape[-1]
    offsets = torch.randint(0, 2 * SHIFT_PIXELS + 1, (len(pixels), 2)).tolist()
    return torch.stack(
        [picture[:, top : top + side, left : left + side] for picture, (top, left) in zip(padded, offsets, strict=True)]
    )


def main_object_accuracy(captioner_dir: Path, held_out_dir: Path) -> float:
    """Share of the memes of `held_out_dir`/labels.csv whose main object is the first one that the caption names."""
    model = BlipForConditionalGeneration.from_pretrained(captioner_dir).eval()
    processor = BlipProcessor.from_pretrained(captioner_dir)
    with open(held_out_dir / "labels.csv", newline="", encoding="utf-8") as file:
        memes = list(csv.DictReader(file))
    pictures = [Image.open(held_out_dir / meme["file_name"]).convert("RGB") for meme in memes]
    with torch.inference_mode():
        ids = model.generate(pixel_values=pixel_values(processor, pictures))
    captions = processor.batch_decode(ids, skip_special_tokens=True)
    right = [names_first(caption, meme["object"]) for caption, meme in zip(captions, memes, strict=True)]
    return sum(right) / len(right)


def names_first(caption: str, main_object: str) -> bool:
    """Whether the caption's first noun phrase, up to " and " or the background, ends in the object's name."""
    return caption.split(" and ")[0].split(" on ")[0].split(" in ")[0].endswith(" " + main_object)
