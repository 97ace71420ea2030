from __future__ import annotations

import pytest
import torch

from fastinterp.models.device import check_device


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu")])
def test_a_device_that_is_there(device):
    assert check_device(device).type == "cpu"


@pytest.mark.parametrize("device", ["", "banana", "meta", "cuda:-1", "cuda:99999999999999", "CPU", "x" * 10_000, "mps"])
def test_a_name_that_is_no_device_is_one_line(device: str):
    with pytest.raises(ValueError, match="^device: expected cpu, cuda or cuda:0, got ") as error:
        check_device(device)
    assert len(str(error.value)) < 100
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("device", [None, 0, 3.5, ["cpu"]])
def test_what_is_no_name_is_one_line(device):
    with pytest.raises(TypeError, match="^device: expected cpu, cuda or cuda:0, got "):
        check_device(device)
