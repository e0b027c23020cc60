"""What DTYPE=auto means on a device (GPUs are made up), and which kernel a GPTQ model gets where nothing compiles."""

import json
import shutil

import pytest
import torch

from detector import gptq_kernel
from detector.device import pick_dtype
from detector.gptq_kernel import DEQUANTISED, chosen_kernel, config_with_kernel, with_kernel

GROUP = 32  # inputs that share a scale of a GPTQ layer


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_a_cpu_gets_bfloat16_where_it_has_the_instructions(monkeypatch, has_bfloat16, dtype):
    monkeypatch.setattr("detector.device.cpu_has_bfloat16", lambda: has_bfloat16)
    assert pick_dtype("cpu", "auto") == dtype
    assert pick_dtype("cpu", "float32") == "float32"


@pytest.mark.parametrize(("capability", "dtype"), [((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16")])
def test_a_gpu_gets_the_sixteen_bits_that_it_multiplies_in(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert pick_dtype("cuda:0", "auto") == dtype
    assert pick_dtype("cuda:0", "float32") == "float32"


@pytest.fixture(scope="module")
def gptq_dir(llm_dir, tmp_path_factory):
    """The tests' chat model with its linear layers as random 4-bit GPTQ ones, written by hand."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("gptq") / "llm"
    shutil.copytree(llm_dir, folder)
    tensors = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            tensors |= random_gptq_layer(name.removesuffix("weight"), *weight.shape)
        else:
            tensors[name] = weight
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": GROUP,
        "sym": True,
        "desc_act": False,
        "checkpoint_format": "gptq",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def random_gptq_layer(prefix: str, outputs: int, inputs: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(outputs * inputs)
    groups = inputs // GROUP
    return {
        # Eight 4-bit integers an int32; the zero point 8 is stored as 7.
        prefix + "qweight": torch.randint(-(2**31), 2**31 - 1, (inputs // 8, outputs), dtype=torch.int32),
        prefix + "qzeros": torch.full((groups, outputs // 8), 0x77777777, dtype=torch.int32),
        prefix + "scales": torch.full((groups, outputs), 0.04, dtype=torch.float16),
        prefix + "g_idx": torch.arange(inputs, dtype=torch.int32) // GROUP,
    }


def probabilities(run_script, gptq_dir, models, memes_dir, kernel, **environment):
    """P(offensive) of four memes by predict.py, and what it said on stderr."""
    lines = "\n".join(str(memes_dir / f"{number}.png") for number in range(4))
    done = run_script(
        "docker/predict.py",
        {**models, "LLM_DIR": gptq_dir, "GPTQ_BACKEND": kernel, "STRICT": "1", **environment},
        stdin=lines.encode(),
    )
    stderr = done.stderr.decode()
    assert done.returncode == 0, stderr[-3000:]
    return [float(line.split()[0]) for line in done.stdout.splitlines()], stderr


def test_dequantised_weights_and_the_torch_kernel_agree_and_need_no_compiler(run_script, gptq_dir, models, memes_dir):
    """Without `compile_nothing` the torch kernel asks for g++, finds none on an empty PATH, and no meme is scored."""
    dequantised, _ = probabilities(run_script, gptq_dir, models, memes_dir, "auto", PATH="/none")
    torch_only, torch_stderr = probabilities(run_script, gptq_dir, models, memes_dir, "torch", PATH="/none")
    assert len(set(dequantised)) > 1
    assert torch_only == pytest.approx(dequantised, abs=0.02)
    assert "`TorchLinear`" in torch_stderr


def test_a_kernel_that_cannot_run_here_is_refused_by_name(run_script, gptq_dir, models):
    refused = run_script("docker/predict.py", {**models, "LLM_DIR": gptq_dir, "GPTQ_BACKEND": "triton"}, stdin=b"a\n")
    assert refused.returncode == 2 and refused.stdout == b""
    assert b"Triton" in refused.stderr and b"cpu" in refused.stderr and b"Traceback" not in refused.stderr


def test_auto_is_what_compiles_nothing_and_on_a_cpu_dequantises_where_memory_allows(gptq_dir, monkeypatch):
    half, whole = torch.bfloat16, torch.float32
    assert chosen_kernel(gptq_dir, "cuda:0", half) == "torch"
    assert {chosen_kernel(gptq_dir, device, half, "marlin") for device in ("cuda:0", "cpu")} == {"marlin"}
    assert chosen_kernel(gptq_dir, "cpu", whole) == DEQUANTISED
    size = sum(path.stat().st_size for path in gptq_dir.glob("*.safetensors"))
    monkeypatch.setattr(gptq_kernel, "free_memory", lambda: 8 * size)
    assert (chosen_kernel(gptq_dir, "cpu", half), chosen_kernel(gptq_dir, "cpu", whole)) == (DEQUANTISED, "auto")
    monkeypatch.setattr(gptq_kernel, "free_memory", lambda: 8 * size - 1)
    assert chosen_kernel(gptq_dir, "cpu", half) == "auto"


def test_the_container_loads_a_gptq_model_dequantised(gptq_dir, monkeypatch):
    from detector.chat_model import load_chat_model

    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "2")
    model = load_chat_model(gptq_dir, "cpu", "float32", 4096).model
    assert {type(layer) for layer in model.modules() if hasattr(layer, "in_features")} == {torch.nn.Linear}


def test_a_control_group_bounds_the_free_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(gptq_kernel, "CGROUP", tmp_path)
    machine = gptq_kernel.free_memory()
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert gptq_kernel.free_memory() > machine / 2
    (tmp_path / "memory.max").write_text("5000\n")
    assert gptq_kernel.free_memory() == 4000


def test_the_config_names_the_kernel_of_a_gptq_model_alone(gptq_dir, llm_dir):
    assert config_with_kernel(gptq_dir, "auto").quantization_config["backend"] == "auto"
    assert config_with_kernel(gptq_dir, DEQUANTISED).quantization_config["backend"] == "torch"
    assert getattr(config_with_kernel(llm_dir, DEQUANTISED), "quantization_config", None) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dequantised_layers_are_plain_and_multiply_as_gptqmodels_torch_kernel(gptq_dir, dtype, monkeypatch):
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("GPTQMODEL_CPU_WORKERS", "2")
    config = config_with_kernel(gptq_dir, DEQUANTISED)
    model = AutoModelForCausalLM.from_pretrained(gptq_dir, config=config, dtype=dtype, device_map="cpu").eval()
    row = torch.arange(5, 25)[None]
    with torch.no_grad():
        expected = model(row).logits.float()
        plain = with_kernel(model, DEQUANTISED, dtype)
        found = plain(row).logits.float()
    assert {type(layer) for layer in plain.modules() if hasattr(layer, "in_features")} == {torch.nn.Linear}
    assert {parameter.dtype for parameter in plain.parameters()} == {dtype}
    assert (found - expected).norm() < (0.03 if dtype == torch.bfloat16 else 1e-3) * expected.norm()
