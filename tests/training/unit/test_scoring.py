"""Log-probabilities of completions against a plain log-softmax, and the states they come from."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

from rft_cli.training.rollouts.backbone import adapter_off, backbone_of
from rft_cli.training.rollouts.scoring import Scores, score
from tests.training import toys

IDS = torch.tensor([[0, 0, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 8], [9, 8, 7, 6, 5, 4, 0]])
ATTENTION = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0]])
LENGTH = 3
TEMPERATURE = 0.7


def model_of(lora: bool = False) -> Any:
    plain = toys.qwen3(head_std=0.3)
    add_fused_lm_head(plain, temperature=TEMPERATURE, outputs=("log_probs", "entropy"))
    if not lora:
        return plain
    model = get_peft_model(plain, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model.eval()


def plain_scores(model: Any) -> tuple[Tensor, Tensor]:
    logits = model(input_ids=IDS, attention_mask=ATTENTION).logits[:, -LENGTH - 1 : -1] / TEMPERATURE
    logps = logits.log_softmax(-1)
    seen = ATTENTION[:, -LENGTH:]
    chosen = logps.gather(-1, IDS[:, -LENGTH:, None]).squeeze(-1)
    return chosen * seen, -(logps.exp() * logps).sum(-1) * seen


def scored(model: Any, chunk: int = 3) -> Scores:
    return score(model, backbone_of(model), IDS, ATTENTION, LENGTH, chunk, nullcontext)


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_scores_are_a_log_softmax_at_the_temperature(lora: bool, chunk: int) -> None:
    model = model_of(lora)
    logps, entropy = plain_scores(model)
    found = scored(model, chunk)
    assert found.entropy is not None
    torch.testing.assert_close(found.logps, logps, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.entropy, entropy, rtol=0, atol=1e-5)


def test_gradients_are_those_of_the_plain_log_softmax() -> None:
    weights = torch.linspace(-1, 1, 9).reshape(3, 3)
    gradients = []
    for scores in (lambda m: plain_scores(m)[0], lambda m: scored(m).logps):
        model = model_of()
        (scores(model) * weights).sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    for name, expected in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-3, atol=5e-5)


def test_states_are_those_from_which_each_token_is_predicted() -> None:
    model = model_of()
    every = model.model(input_ids=IDS, attention_mask=ATTENTION).last_hidden_state
    used = ATTENTION[:, 4:].bool()  # what predicts padding is not computed where no row needs it
    torch.testing.assert_close(scored(model).states[used], every[:, 3:6][used], rtol=1e-5, atol=1e-5)


def test_after_scoring_the_model_is_as_it_was() -> None:
    model = model_of()
    before = model(input_ids=IDS).logits
    scored(model)
    assert torch.equal(model(input_ids=IDS).logits, before)


def test_the_adapter_that_is_active_is_scored() -> None:
    model = model_of(lora=True)
    with torch.no_grad():
        policy = scored(model).logps
        with adapter_off(model):
            reference = scored(model).logps
            plain = plain_scores(model)[0]
    torch.testing.assert_close(reference, plain, rtol=0, atol=1e-5)
    assert not torch.allclose(policy, reference, atol=1e-3)
