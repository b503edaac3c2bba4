"""Where the plain implementation of attention is taken, and that it computes the same."""

from __future__ import annotations

import pytest
import torch

from rft_cli.training.precision import SHORT_SEQUENCE, choose_attention
from tests.training import toys

IDS = torch.tensor([[0, 0, 3, 4, 5], [7, 6, 5, 4, 3]])
MASK = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])


def chosen(setting=None, device="cpu", compute="bfloat16", tokens=SHORT_SEQUENCE):
    model = toys.qwen3(head_std=0.1)
    assert model.config._attn_implementation == "sdpa"
    choose_attention(model, setting, device, compute, tokens)
    return model


def test_short_sequences_in_bfloat16_on_a_cpu_take_the_plain_one():
    assert chosen().config._attn_implementation == "eager"


@pytest.mark.parametrize(
    "other", [{"setting": "sdpa"}, {"device": "cuda"}, {"compute": "float32"}, {"tokens": SHORT_SEQUENCE + 1}]
)
def test_everything_else_stays(other):
    assert chosen(**other).config._attn_implementation == "sdpa"


def test_both_give_the_same_logits():
    fused, plain = chosen("sdpa"), chosen()
    plain.load_state_dict(fused.state_dict())
    with torch.no_grad():
        one = fused(input_ids=IDS, attention_mask=MASK).logits
        other = plain(input_ids=IDS, attention_mask=MASK).logits
    torch.testing.assert_close(one[MASK.bool()], other[MASK.bool()], rtol=1e-4, atol=1e-5)
