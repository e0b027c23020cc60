"""BLIP captions in batches: the picture is encoded once, the words follow greedily with cached keys and values.

Attention runs by PyTorch's fused kernel, where transformers writes every score of a picture to memory. A picture has
577 patches at BLIP's usual size, so its scores are 12 heads x 577 x 577 a layer: written, scaled, normalised and read
again they cost two thirds of what the products do. Only what happens here is covered: whole pictures, and text that
grows by one token a step, so that nothing is ever masked.
"""

from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from detector.whole_model import UnusableFolder, load_whole

if TYPE_CHECKING:
    from transformers import BertTokenizerFast, BlipForConditionalGeneration, EncoderDecoderCache


class UnusableCaptioner(Exception):
    """The folder holds no captioner; the message says why."""


class Captioner:
    """Captions what Reader made of pictures; for one thread."""

    def __init__(self, model: "BlipForConditionalGeneration", tokenizer: "BertTokenizerFast", max_new_tokens: int = 20):
        self.model = model
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens

    @torch.inference_mode()
    def captions(self, pixels: list[torch.Tensor]) -> list[str]:
        """One caption for each picture, greedy, at most `max_new_tokens` tokens."""
        batch = torch.stack(pixels).to(self.model.device, self.model.dtype)
        tokens = self._greedy_tokens(self.model.vision_model(pixel_values=batch).last_hidden_state)
        return [self.tokenizer.decode(row, skip_special_tokens=True).strip() for row in tokens.tolist()]

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


def load_captioner(model_dir: Path, device: str, dtype: str, max_new_tokens: int) -> Captioner:
    """Load a BLIP captioning model folder (safetensors only); raises UnusableCaptioner."""
    from transformers import BertTokenizerFast, BlipForConditionalGeneration

    try:
        tokenizer = BertTokenizerFast.from_pretrained(model_dir, local_files_only=True)
        model = load_whole(BlipForConditionalGeneration, model_dir, dtype=getattr(torch, dtype))
    except (UnusableFolder, OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableCaptioner(str(error)) from error
    fuse_attention(model)
    return Captioner(model.to(device).eval(), tokenizer, max_new_tokens)


def fuse_attention(model: "BlipForConditionalGeneration") -> None:
    """Give every attention module of a BLIP captioner the forward functions below."""
    from transformers.models.blip.modeling_blip import BlipAttention
    from transformers.models.blip.modeling_blip_text import BlipTextSelfAttention

    for module in model.modules():
        if isinstance(module, BlipAttention):
            module.forward = MethodType(picture_attention, module)
        elif isinstance(module, BlipTextSelfAttention):
            module.forward = MethodType(text_attention, module)


def picture_attention(module: Any, hidden_states: torch.Tensor, **_: object) -> tuple[torch.Tensor, None]:
    """[pictures, patches, hidden size] in and out."""
    pictures, patches, size = hidden_states.shape
    mixed = module.qkv(hidden_states).view(pictures, patches, 3, module.num_heads, module.head_dim)
    query, key, value = mixed.permute(2, 0, 3, 1, 4)
    attended = scaled_dot_product_attention(query, key, value, scale=module.scale)
    return module.projection(attended.transpose(1, 2).reshape(pictures, patches, size)), None


def text_attention(
    module: Any,
    hidden_states: torch.Tensor,
    encoder_hidden_states: torch.Tensor | None = None,
    *,
    past_key_values: "EncoderDecoderCache",
    **_: object,
) -> tuple[torch.Tensor, None]:
    """One new token of each text, [texts, 1, hidden size] in and out; it sees all earlier ones or the whole picture.

    `past_key_values` is an EncoderDecoderCache: a picture's keys and values are computed at its first token.
    """
    query = _heads(module, module.query(hidden_states))
    if encoder_hidden_states is None:
        keys, values = past_key_values.self_attention_cache.update(
            _heads(module, module.key(hidden_states)), _heads(module, module.value(hidden_states)), module.layer_idx
        )
    else:
        keys, values = _picture_keys(module, encoder_hidden_states, past_key_values)
    attended = scaled_dot_product_attention(query, keys, values)
    return attended.transpose(1, 2).reshape(hidden_states.shape), None


def _picture_keys(module: Any, states: torch.Tensor, cache: "EncoderDecoderCache") -> tuple[torch.Tensor, torch.Tensor]:
    if not cache.is_updated.get(module.layer_idx):
        # Contiguous: they are read at every token, a tenth faster where the rows of a head lie together.
        cache.cross_attention_cache.update(
            _heads(module, module.key(states)).contiguous(),
            _heads(module, module.value(states)).contiguous(),
            module.layer_idx,
        )
        cache.is_updated[module.layer_idx] = True
    layer = cache.cross_attention_cache.layers[module.layer_idx]
    return layer.keys, layer.values


def _heads(module: Any, states: torch.Tensor) -> torch.Tensor:
    """[texts, tokens, hidden size] as [texts, heads, tokens, head size]."""
    return states.view(*states.shape[:-1], -1, module.attention_head_size).transpose(1, 2)
