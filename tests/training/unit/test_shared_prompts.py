"""Splitting a pass into prompts, run once, and completions: the same states, gradients and samples."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen3Config,
)
from trl.trainer.utils import add_fused_lm_head

from rft_cli.training.rollouts.backbone import backbone_of
from rft_cli.training.rollouts.scoring import score
from rft_cli.training.rollouts.shared_prompts import (
    Distinct,
    by_length,
    distinct_prompts,
    prompts_sampled_once,
    splitting_is_exact,
)

SIZES: dict[str, Any] = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "bos_token_id": None,
}
ARCHITECTURES = {
    "qwen3": Qwen3Config(**SIZES),
    "llama": LlamaConfig(**SIZES),
    "mistral, window 4": MistralConfig(**SIZES, sliding_window=4),
    "gemma2, window 4": Gemma2Config(**SIZES, sliding_window=4, query_pre_attn_scalar=8),
    "gpt2": GPT2Config(vocab_size=32, n_embd=16, n_layer=3, n_head=2, n_positions=64, eos_token_id=0),
}
PROMPTS = torch.tensor([[0, 0, 0, 3, 4, 5], [9, 8, 7, 6, 5, 4], [0, 0, 0, 3, 4, 5]] * 2)
SEEN = (PROMPTS != 0).long()
WIDTH = PROMPTS.size(1)
COMPLETIONS = (torch.arange(30).view(6, 5) * 7) % 31 + 1
ENDS = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 1, 0]] * 2)
IDS = torch.cat([PROMPTS, COMPLETIONS * ENDS], dim=1)
ATTENTION = torch.cat([SEEN, ENDS], dim=1)


def model_of(name: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(ARCHITECTURES[name], attn_implementation="eager")
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model.eval()


def logps(model: Any, share: bool, chunk: int = 6) -> Tensor:
    return score(model, backbone_of(model), IDS, ATTENTION, 5, chunk, nullcontext, share).logps


class Widths:
    """How many tokens went into the first layer, call by call."""

    def __init__(self, model: Any) -> None:
        self.seen: list[tuple[int, int]] = []
        backbone: Any = backbone_of(model)
        layers = backbone.layers if hasattr(backbone, "layers") else backbone.h
        layers[0].register_forward_pre_hook(self._note)

    def _note(self, _module: Any, args: tuple[Tensor, ...]) -> None:
        self.seen.append((args[0].size(0), args[0].size(1)))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_states_and_gradients_are_those_of_whole_passes(name: str) -> None:
    found = []
    for share in (False, True):
        model = model_of(name)
        widths = Widths(model)
        scores = logps(model, share)
        (scores * torch.linspace(-1, 1, 30).view(6, 5) * ENDS).sum().backward()
        found.append((scores.detach(), {n: p.grad for n, p in model.named_parameters()}))
        assert widths.seen == ([(2, 6), (6, 4)] if share else [(6, 11)])
    (whole, gradients), (split, others) = found
    torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-4)
    for parameter, gradient in gradients.items():
        assert gradient is not None
        scale = gradient.abs().max().item()
        torch.testing.assert_close(others[parameter], gradient, rtol=1e-3, atol=1e-4 * max(scale, 1e-3))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_samples_are_the_same_and_each_prompt_is_run_once(name: str) -> None:
    drawn = []
    for shared in (False, True):
        model = model_of(name)
        widths = Widths(model)
        torch.manual_seed(0)
        with prompts_sampled_once(model) if shared else nullcontext():
            drawn.append(
                model.generate(input_ids=PROMPTS, attention_mask=SEEN, max_new_tokens=8, do_sample=True)
            )
        assert widths.seen[0] == ((2, 6) if shared else (6, 6))
        assert set(widths.seen[1:]) == {(6, 1)}
    assert torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_trial_says_that_these_can_be_split(name: str) -> None:
    model = model_of(name).train()
    assert splitting_is_exact(model, torch.device("cpu"))
    assert model.training


def test_the_trial_refuses_what_has_no_keys_and_values() -> None:
    mamba = AutoModelForCausalLM.from_config(
        MambaConfig(vocab_size=32, hidden_size=16, num_hidden_layers=2, state_size=4)
    )
    assert not splitting_is_exact(mamba, torch.device("cpu"))


def test_the_trial_refuses_a_model_that_forgets_its_cache() -> None:
    model = model_of("llama")
    forward = model.model.forward
    model.model.forward = lambda **inputs: forward(**{**inputs, "past_key_values": None})
    assert not splitting_is_exact(model, torch.device("cpu"))


def test_with_an_adapter() -> None:
    plain = model_of("llama")
    model = get_peft_model(plain, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    torch.testing.assert_close(logps(model, True), logps(model, False), rtol=1e-4, atol=1e-4)


def test_each_chunk_runs_whole_or_split_as_its_prompts_are() -> None:
    model = model_of("llama")
    widths = Widths(model)
    whole = logps(model, share=False, chunk=2)
    split = logps(model, share=True, chunk=2)
    assert widths.seen == [(2, 11), (2, 8), (2, 10), (2, 11), (1, 3), (2, 4), (2, 10)]
    torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-4)


def test_one_token_completions() -> None:
    model = model_of("llama")
    found = [
        score(model, backbone_of(model), IDS[:, :7], ATTENTION[:, :7], 1, 6, nullcontext, share=share).logps
        for share in (False, True)
    ]
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)


def test_distinct_prompts() -> None:
    found = distinct_prompts(PROMPTS, SEEN)
    assert torch.equal(PROMPTS[found.rows][found.where], PROMPTS)
    assert len(found.rows) == 2
    masked = SEEN.clone()
    masked[0, 2] = 1  # the same ids, one of them seen
    assert len(distinct_prompts(PROMPTS, masked).rows) == 3


def test_splitting_must_be_worth_it() -> None:
    eight = Distinct(torch.arange(1), torch.zeros(8, dtype=torch.long))
    assert eight.saves(100, 60)
    assert not eight.saves(5, 60)  # 485 tokens of 520
    assert not Distinct(torch.arange(8), torch.arange(8)).saves(100, 60)


def test_rows_of_similar_length_go_together() -> None:
    found = by_length(torch.tensor([40, 3, 100, 16, 55, 0, 24, 1]))
    assert [(rows.tolist(), longest) for rows, longest in found] == [
        ([2, 4], 100),
        ([0], 40),
        ([3, 6], 24),
        ([1, 7], 3),
        ([5], 1),
    ]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_long_and_short_completions_are_scored_alike(name: str) -> None:
    """Lengths 1 to 40 behind shared prompts: each row as in one pass over the whole text, gradients too."""
    model = model_of(name)
    lengths = torch.tensor([40, 1, 17, 9, 22, 5])
    ends = (torch.arange(40) < lengths.unsqueeze(1)).long()
    ids = torch.cat([PROMPTS, ((torch.arange(240).view(6, 40) * 7) % 31 + 1) * ends], dim=1)
    attention = torch.cat([SEEN, ends], dim=1)
    results = []
    for share in (False, True):
        model.zero_grad()
        found = score(model, backbone_of(model), ids, attention, 40, 6, nullcontext, share)
        (found.logps * ends).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((found.logps.detach(), gradient))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-3, atol=1e-3)
