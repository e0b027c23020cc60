"""BLIP captions in batches: the picture is encoded once, the words follow greedily with cached keys and values."""

from pathlib import Path

import torch
from PIL import Image

from blip_attention import fuse_attention


class Captioner:
    """Captions pictures; `pixels` may be called from any thread, `captions` from one."""

    def __init__(self, model, processor, max_new_tokens: int = 20):
        self.model = model
        self.processor = processor
        self.max_new_tokens = max_new_tokens

    def pixels(self, picture: Image.Image) -> torch.Tensor:
        """The model's input for one RGB picture: float32, shape [3, height, width] of the model's image size."""
        return model_pixels(self.processor.image_processor, picture)

    @torch.inference_mode()
    def captions(self, pixels: list[torch.Tensor]) -> list[str]:
        """One caption for each picture, greedy, at most `max_new_tokens` tokens."""
        batch = torch.stack(pixels).to(self.model.device, self.model.dtype)
        tokens = self._greedy_tokens(self.model.vision_model(pixel_values=batch).last_hidden_state)
        return [self.processor.tokenizer.decode(row, skip_special_tokens=True).strip() for row in tokens.tolist()]

    def _greedy_tokens(self, image_states: torch.Tensor) -> torch.Tensor:
        """Token ids [pictures, <= max_new_tokens], padded behind the separator that ends a caption."""
        from transformers import DynamicCache, EncoderDecoderCache

        text = self.model.config.text_config
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        latest = torch.full((len(image_states), 1), text.bos_token_id, device=image_states.device)
        finished = torch.zeros_like(latest, dtype=torch.bool)
        chosen = []
        for _ in range(self.max_new_tokens):
            output = self.model.text_decoder(
                input_ids=latest, encoder_hidden_states=image_states, past_key_values=cache, use_cache=True
            )
            latest = output.logits[:, -1:].argmax(dim=-1).masked_fill(finished, text.pad_token_id)
            chosen.append(latest)
            finished |= latest == text.sep_token_id
            if finished.all():
                break
        return torch.cat(chosen, dim=1)


def model_pixels(image_processor, picture: Image.Image) -> torch.Tensor:
    """As Captioner.pixels, where the model itself lies in another process."""
    return image_processor(images=picture, return_tensors="pt")["pixel_values"][0]


class UnusableCaptioner(Exception):
    """The folder holds no captioner; the message says why."""


def load_image_processor(model_dir: Path):
    """What makes a captioner's input of a picture, without the captioner; raises UnusableCaptioner."""
    from transformers import BlipImageProcessorPil

    try:
        return BlipImageProcessorPil.from_pretrained(model_dir, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableCaptioner(f"no image processor of a BLIP captioning model: {error}") from error


def load_captioner(model_dir: Path, device: str, dtype: str, max_new_tokens: int) -> Captioner:
    """Load a BLIP captioning model folder (safetensors only); raises UnusableCaptioner."""
    from transformers import BertTokenizerFast, BlipForConditionalGeneration, BlipProcessor

    image_processor = load_image_processor(model_dir)
    try:
        processor = BlipProcessor(image_processor, BertTokenizerFast.from_pretrained(model_dir, local_files_only=True))
        model = BlipForConditionalGeneration.from_pretrained(
            model_dir, local_files_only=True, use_safetensors=True, dtype=getattr(torch, dtype)
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UnusableCaptioner(f"no BLIP captioning model in safetensors: {error}") from error
    fuse_attention(model)
    return Captioner(model.to(device).eval(), processor, max_new_tokens)
