"""An adapter is put on its base whole or refused in one sentence: peft leaves what its file lacks as initialised."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from guard.whole_model import DOWNLOAD, UnusableFolder, conversion, listed, pointer_faults

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

ADAPTER = "adapter_model.safetensors"


def check_adapter(lora_dir: Path) -> None:
    """Raises UnusableFolder, which goes on from the folder's name, where there is no adapter that can be read."""
    if not (lora_dir / ADAPTER).is_file():
        if (lora_dir / ADAPTER).with_suffix(".bin").is_file():
            raise UnusableFolder(f"lacks {ADAPTER}, its weights are pickled: {conversion(lora_dir)}")
        raise UnusableFolder(f"lacks {ADAPTER}: it is the folder that train_model.py wrote")
    for fault in pointer_faults([lora_dir / ADAPTER]):
        raise UnusableFolder(fault)


def load_adapter(base: "PreTrainedModel", lora_dir: Path, **options: Any) -> "PeftModel":
    """Base plus adapter; raises UnusableFolder where they do not fit, or the file lacks tensors of the adapter."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    try:
        adapted: PeftModel = PeftModel.from_pretrained(base, lora_dir, **options)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise UnusableFolder(f"does not fit MODEL_DIR ({reason}); set MODEL_DIR to the base of the training") from error
    with safe_open(lora_dir / ADAPTER, "pt") as weights:
        there = set(weights.keys())
    if absent := get_peft_model_state_dict(adapted, save_embedding_layers=False).keys() - there:
        raise UnusableFolder(f"lacks {listed(absent, 'tensor')} of its adapter_config.json: {DOWNLOAD}")
    return adapted
