"""A packed row must give what ordinary padded rows give: logits, loss and gradients; what cannot is refused."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from small_memes import meme_rows

from guard.packed_rows import check_packable, pack_row, prove_packable
from guard.template import EncodedMeme
from training.packed_trainer import RowCollator

PREFIX = list(range(5, 35))
SUFFIXES = [[40, 41, 42], [50, 51, 52, 53, 54, 55], [60], [70, 71, 72, 73]]
SIZES = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES = ["Mistral", "Llama", "Qwen2", "Qwen3"]
GPT_SIZES = {
    "vocab_size": 128,
    "n_embd": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MIXED = ["sliding_attention", "full_attention"]
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
# Name of the config, its settings.
PACKABLE = [
    ("Mistral", {**SIZES, "sliding_window": 36}),  # as long as the longest path
    ("Mixtral", {**SIZES, "num_local_experts": 4}),
    ("Gemma2", {**SIZES, "head_dim": 16, "sliding_window": 64}),
    ("Gemma3Text", {**SIZES, "head_dim": 16, "sliding_window": 64, "layer_types": MIXED}),
    ("Phi3", {**SIZES, "sliding_window": 64}),
    (
        "GptOss",
        {
            **SIZES,
            "head_dim": 16,
            "num_local_experts": 4,
            "sliding_window": 64,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
    ),
    (
        "Llama4Text",
        {
            **SIZES,
            "head_dim": 16,
            "intermediate_size_mlp": 96,
            "num_local_experts": 2,
            "attention_chunk_size": 64,
            "layer_types": ["chunked_attention", "full_attention"],
        },
    ),
    ("GPT2", GPT_SIZES),
    (
        "OPT",
        {
            **ENDS,
            "vocab_size": 128,
            "hidden_size": 64,
            "word_embed_proj_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 96,
        },
    ),
    ("Falcon", {**ENDS, "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}),
    (
        "GPTNeo",
        {
            **ENDS,
            "vocab_size": 128,
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "window_size": 44,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 256,
        },
    ),
]
REFUSED_BY_CONFIG = [
    ("Mistral", {**SIZES, "sliding_window": 35}, "sliding window of 35 tokens is shorter than a row of 36"),
    ("Gemma2", {**SIZES, "sliding_window": 35}, "sliding window of 35"),
    ("Gemma3Text", {**SIZES, "sliding_window": 35, "layer_types": MIXED}, "sliding window of 35"),
    ("Gemma3", {"text_config": {**SIZES, "sliding_window": 35, "layer_types": MIXED}}, "sliding window of 35"),
    ("Phi3", {**SIZES, "sliding_window": 35}, "sliding window of 35"),
    ("GptOss", {**SIZES, "sliding_window": 35}, "sliding window of 35"),
    (
        "Qwen2",
        {**SIZES, "sliding_window": 35, "use_sliding_window": True, "max_window_layers": 1},
        "sliding window of 35",
    ),
    ("Llama4Text", {**SIZES, "attention_chunk_size": 35}, "attention chunk size of 35"),
    ("Qwen3Next", {**SIZES, **LINEAR}, "linear_attention"),
    ("Qwen3_5", {"text_config": {**SIZES, **LINEAR}}, "linear_attention"),
    ("Lfm2", {**SIZES, "layer_types": ["conv", "full_attention"]}, "conv"),
    ("Mamba", {"vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2}, "linear_attention"),
    (
        "Mamba2",
        {"vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 16},
        "linear_attention",
    ),
    ("Jamba", SIZES, "linear_attention"),
]
# The config of these says nothing.
REFUSED_BY_THE_PROOF = [
    (
        "Rwkv",
        {
            "vocab_size": 128,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "attention_hidden_size": 64,
            "intermediate_size": 96,
        },
    ),
    ("Mpt", {"vocab_size": 128, "d_model": 64, "n_layers": 2, "n_heads": 4}),  # ALiBi
    ("Bloom", {**ENDS, "vocab_size": 128, "hidden_size": 64, "n_layer": 2, "n_head": 4}),  # ALiBi
    (
        "Falcon",
        {**ENDS, "vocab_size": 128, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "alibi": True},
    ),
    (
        "GPTNeo",
        {
            **ENDS,
            "vocab_size": 128,
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "window_size": 37,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 256,
        },
    ),
    ("Doge", {**SIZES, "keep_window_size": 4}),  # chooses which keys to keep from the whole row
    (
        "Bert",
        {
            **ENDS,
            "vocab_size": 128,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 96,
        },
    ),  # sees what comes behind
]


def new_config(name: str, settings: dict):
    return getattr(transformers, f"{name}Config")(**settings)


def new_model(name: str, settings: dict):
    """A tiny model with random weights, larger than usual so that a wrong key or position shows in the logits."""
    torch.manual_seed(0)
    try:
        model = transformers.AutoModelForCausalLM.from_config(new_config(name, settings), attn_implementation="sdpa")
    except ValueError:  # no SDPA for this class
        model = transformers.AutoModelForCausalLM.from_config(new_config(name, settings), attn_implementation="eager")
    model = model.float().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(3)
    return model


@pytest.fixture(
    params=[(name, tied) for name in FAMILIES for tied in (False, True)],
    ids=lambda param: f"{param[0]}-{'tied' if param[1] else 'untied'}",
)
def model(request):
    name, tied = request.param
    model = new_model(name, {**SIZES, "tie_word_embeddings": tied})
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    if name == "Qwen2":  # its attention has biases, which start at zero
        for module in model.modules():
            if getattr(module, "bias", None) is not None:
                torch.nn.init.normal_(module.bias, std=0.2)
    return model


def separate_logits(model, suffixes=SUFFIXES):
    return torch.stack([model(torch.tensor([PREFIX + suffix]), use_cache=False).logits[0, -1] for suffix in suffixes])


def packed_logits(model, suffixes=SUFFIXES):
    return model(**pack_row(PREFIX, suffixes).model_inputs("cpu", torch.float32), use_cache=False).logits[0]


def trained_batch(model, packed: bool):
    """(logits [n, V], loss, gradients by name) of the batch that the Trainer's collator makes of four memes.

    The fourth is offensive and has a category: a fifth answer, behind the token of its label.
    """
    prompt = SimpleNamespace(prefix_ids=PREFIX, tokenizer=SimpleNamespace(pad_token_id=0), label_token_ids=(3, 4))
    memes = [EncodedMeme([suffix], number % 2, 0) for number, suffix in enumerate(SUFFIXES)]
    memes[3] = EncodedMeme([SUFFIXES[3]], 1, 0, category_token=5)
    batch = RowCollator(prompt, torch.float32, packed)(memes)
    labels = batch.pop("labels")
    batch.pop("views")
    assert batch["input_ids"].shape == ((1, 45) if packed else (5, 36))
    assert labels.tolist() == [3, 4, 3, 4, 5]
    assert batch["input_ids"][-1, -1] == 4, "the category is asked behind the offensive label"
    logits = model(**batch, use_cache=False).logits.reshape(-1, SIZES["vocab_size"])
    loss = torch.nn.functional.cross_entropy(logits, labels)
    model.zero_grad()
    loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return logits.detach(), loss.item(), gradients


def test_logits_equal_those_of_separate_rows(model):
    with torch.no_grad():
        assert torch.allclose(packed_logits(model), separate_logits(model), atol=1e-5, rtol=0)


def test_loss_and_lora_gradients_equal_those_of_padded_rows(model):
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    logits, loss, gradients = trained_batch(model, packed=True)
    padded_logits, padded_loss, padded_gradients = trained_batch(model, packed=False)
    assert torch.allclose(logits, padded_logits, atol=1e-5, rtol=0)
    assert abs(loss - padded_loss) < 1e-5
    # A and B of seven linear layers in each of two blocks; the LM head has none.
    assert gradients.keys() == padded_gradients.keys() and len(gradients) == 2 * 2 * 7
    for name in gradients:
        assert torch.allclose(gradients[name], padded_gradients[name], atol=1e-5, rtol=0), name
        assert gradients[name].abs().max() > 1e-3, f"{name}: too small for the comparison to mean anything"


def test_a_suffix_does_not_see_its_neighbours(model):
    with torch.no_grad():
        alone, crowded = packed_logits(model, SUFFIXES[:1]), packed_logits(model, [[99] * 9, SUFFIXES[0], [98] * 9])
    assert torch.allclose(alone[0], crowded[1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("broken", ["position_ids", "attention_mask"])
def test_positions_and_mask_are_both_needed(model, broken):
    """What the equalities above would miss if the models were blind to it."""
    inputs = pack_row(PREFIX, SUFFIXES).model_inputs("cpu", torch.float32)
    length = inputs["input_ids"].shape[1]
    plain = {
        "position_ids": torch.arange(length)[None],
        "attention_mask": torch.full((length, length), -1e9).triu(1)[None, None],
    }
    with torch.no_grad():
        logits = model(**{**inputs, broken: plain[broken]}, use_cache=False).logits[0]
        assert (logits - separate_logits(model)).abs()[1:].max() > 1e-2


@pytest.mark.parametrize(("name", "settings"), PACKABLE, ids=[name for name, _ in PACKABLE])
def test_other_models_and_windows_that_never_bite_pass_and_are_right(name, settings):
    check_packable(new_config(name, settings), longest=36)
    model = new_model(name, settings)
    prove_packable(model, PREFIX, SUFFIXES)
    with torch.no_grad():
        assert torch.allclose(packed_logits(model), separate_logits(model), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    REFUSED_BY_CONFIG,
    ids=[f"{name}-{words.split()[0]}" for name, _, words in REFUSED_BY_CONFIG],
)
def test_short_windows_and_running_states_are_refused_with_the_remedy(name, settings, words):
    with pytest.raises(ValueError, match=f"{words}.*PACKED_ROWS=0"):
        check_packable(new_config(name, settings), longest=36)


@pytest.mark.parametrize(("name", "settings"), REFUSED_BY_THE_PROOF, ids=[name for name, _ in REFUSED_BY_THE_PROOF])
def test_what_no_config_tells_is_found_by_trying(name, settings):
    check_packable(new_config(name, settings), longest=36)
    model = new_model(name, settings).train()
    with pytest.raises(ValueError, match=f"^{name}.*PACKED_ROWS=0"):
        prove_packable(model, PREFIX, SUFFIXES)
    assert model.training


def test_a_short_window_is_found_by_trying_too():
    with pytest.raises(ValueError, match="MistralForCausalLM answers otherwise.*PACKED_ROWS=0"):
        prove_packable(new_model("Mistral", {**SIZES, "sliding_window": 16}), PREFIX, SUFFIXES)


def test_16_bit_rounding_is_not_taken_for_an_error():
    model = new_model("Mistral", SIZES).bfloat16()
    prove_packable(model, PREFIX, SUFFIXES, torch.bfloat16)


def test_training_tries_the_model_before_it_begins(base_dir, tmp_path):
    """GPT-Neo's local layers look back 256 tokens of the row, so that most suffixes lose sight of the policy."""
    from transformers import AutoTokenizer

    from guard.template import encode_memes, load_guard_prompt
    from train_model import Settings, load_lora_model

    folder = tmp_path / "gpt-neo"
    tokenizer = AutoTokenizer.from_pretrained(base_dir)
    new_model(
        "GPTNeo",
        {
            **ENDS,
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
        },
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    prompt, _ = load_guard_prompt(folder)
    memes = encode_memes(prompt, meme_rows(16, 1))
    settings = {"model_dir": folder, "dataset_dir": str(tmp_path), "output_dir": tmp_path / "lora"}
    with pytest.raises(ValueError, match="GPTNeoForCausalLM answers otherwise.*PACKED_ROWS=0"):
        load_lora_model(Settings(**settings), prompt, memes)
    load_lora_model(Settings(**settings, packed_rows=False), prompt, memes)
