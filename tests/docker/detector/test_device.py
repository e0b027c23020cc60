"""What DTYPE=auto means on a device; GPUs are made up."""

import pytest
import torch

from precision import pick_dtype


@pytest.mark.parametrize(("has_bfloat16", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_a_cpu_gets_bfloat16_where_it_has_the_instructions(monkeypatch, has_bfloat16, dtype):
    monkeypatch.setattr("precision.cpu_has_bfloat16", lambda: has_bfloat16)
    assert pick_dtype("cpu", "auto") == dtype
    assert pick_dtype("cpu", "float32") == "float32"


@pytest.mark.parametrize(("capability", "dtype"), [((7, 0), "float16"), ((7, 5), "float16"), ((8, 0), "bfloat16")])
def test_a_gpu_gets_the_sixteen_bits_that_it_multiplies_in(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert pick_dtype("cuda:0", "auto") == dtype
    assert pick_dtype("cuda:0", "float32") == "float32"
