"""The ordinary way to score memes: one image at a time, a caption by `generate`, two prompts in full by `generate`."""

import time
from pathlib import Path


def ordinary_way(blip, llm, prompt, ocr, paths: list[str]) -> dict:
    """One image at a time; seconds by stage, probabilities, and (text, caption) of each image."""
    from detector.image_decoding import decode_image
    from detector.ocr import meme_text

    captioner, processor = blip
    seconds = dict.fromkeys(("read", "caption", "score"), 0.0)
    memes, probabilities = [], []
    start = None
    for path in [paths[0], *paths]:  # the first warms up and is not counted
        marks = [time.perf_counter()]
        text = meme_text(ocr.read(picture := decode_image(path)))
        marks.append(time.perf_counter())
        inputs = processor(images=picture, return_tensors="pt").to(captioner.device, captioner.dtype)
        tokens = captioner.generate(**inputs, max_new_tokens=20, min_new_tokens=20)
        caption = processor.decode(tokens[0], skip_special_tokens=True).strip()
        marks.append(time.perf_counter())
        probability = generated_probability(llm, prompt, text, caption)
        marks.append(time.perf_counter())
        if start is None:
            start = marks[-1]
            continue
        for stage, begun, ended in zip(seconds, marks[:-1], marks[1:], strict=True):
            seconds[stage] += ended - begun
        memes.append((text, caption))
        probabilities.append(probability)
    return {"seconds": seconds, "total": time.perf_counter() - start, "memes": memes, "probabilities": probabilities}


def plain_captioner(folder: Path, device: str, dtype: str):
    """The captioner as anybody loads it, and its processor (without torchvision)."""
    import torch
    from transformers import BertTokenizerFast, BlipForConditionalGeneration, BlipImageProcessorPil, BlipProcessor

    processor = BlipProcessor(
        BlipImageProcessorPil.from_pretrained(folder / "blip"), BertTokenizerFast.from_pretrained(folder / "blip")
    )

    model = BlipForConditionalGeneration.from_pretrained(folder / "blip", dtype=getattr(torch, dtype))
    return model.to(device).eval(), processor


def plain_llm(folder: Path, device: str, dtype: str):
    """The chat model as anybody loads it."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder / "llm", dtype=getattr(torch, dtype)).to(device).eval()


def in_half(llm, prompt, memes) -> float:
    """Seconds to score all memes by `generate` in bfloat16."""
    generated_probability(llm, prompt, *memes[0])
    begun = time.perf_counter()
    for text, caption in memes:
        generated_probability(llm, prompt, text, caption)
    return time.perf_counter() - begun


def generated_probability(llm, prompt, text: str, caption: str) -> float:
    """Mean over the views of P(offensive) from the first of ten generated tokens, the policy read anew each time."""
    import torch

    from detector.prompt import view_windows

    found = []
    for suffix, *_ in view_windows(prompt, text, caption, prompt.max_text_tokens).suffixes.values():  # a text is cut
        tokens = torch.tensor([prompt.prefix_ids + suffix], device=llm.device)
        output = llm.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=10,
            min_new_tokens=10,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
            pad_token_id=0,
        )
        labels = output.logits[0][0, list(prompt.label_token_ids)].float()
        found.append(torch.softmax(labels / prompt.temperature, dim=-1)[1].item())
    return sum(found) / len(found)
