"""Critics on the policy's own layers: what they see, what they train, and what they must leave alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, GraniteConfig, LlamaConfig

from rft_cli.errors import UsageError
from rft_cli.training.ppo.adapters import active_adapter
from rft_cli.training.ppo.critic import Critic, CriticBatch, CriticOptimizer, FitSettings, fit
from rft_cli.training.ppo.critic_top import LoraCritic, LoraTopCritic, TopCritic, top_depth
from rft_cli.training.ppo.taps import Tap
from rft_cli.training.rollouts.backbone import backbone_of
from rft_cli.training.rollouts.moments import Moments, identity
from tests.training import toys

HIDDEN = 32
IDS = torch.tensor([[0, 0, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6], [9, 8, 7, 6, 5, 4]])
ATTENTION = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]])
LENGTH = 3


def lora() -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")


def policy(seed: int = 0) -> Any:
    """A LoRA policy whose adapter has moved away from zero."""
    model = get_peft_model(toys.qwen3(hidden=HIDDEN, seed=seed), lora())
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    return model.eval()


def adapter_of(model: Any, name: str) -> dict[str, torch.nn.Parameter]:
    return {n: p for n, p in model.named_parameters() if f".{name}." in n}


@torch.no_grad()
def features_of(model: Any, depth: int | None) -> Tensor:
    """What the reference pass has at `depth`."""
    with active_adapter(model, None), Tap(model, depth).open() as taken:
        model(input_ids=IDS, attention_mask=ATTENTION)
    return taken[0]


@torch.no_grad()
def last_states(model: Any, name: str | None) -> Tensor:
    with active_adapter(model, name):
        return backbone_of(model)(input_ids=IDS, attention_mask=ATTENTION).last_hidden_state


def attended(states: Tensor) -> Tensor:
    return states * ATTENTION.unsqueeze(-1)


def batch_for(critic: Critic, model: Any) -> CriticBatch:
    return CriticBatch(IDS, ATTENTION, LENGTH, features_of(model, critic.depth))


# -- what they see ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layers", "depth"), [(1, 0), (2, 1), (4, 3), (7, 6), (8, 6), (28, 21)])
def test_the_top_is_a_quarter_of_the_layers(layers: int, depth: int) -> None:
    assert top_depth(layers) == depth


def test_a_new_adapter_sees_what_the_reference_sees() -> None:
    model = policy()
    reference = last_states(model, None)
    assert (attended(last_states(model, "default")) - attended(reference)).abs().max() > 0.01
    critic = LoraTopCritic(model, HIDDEN, lora())
    assert critic.depth == 3
    with torch.no_grad(), critic.active():
        top = critic._run(features_of(model, critic.depth), ATTENTION)
    torch.testing.assert_close(attended(top), attended(reference), atol=1e-5, rtol=0.0)


def test_a_copied_top_sees_what_the_model_sees() -> None:
    model = toys.qwen3(hidden=HIDDEN)
    critic = TopCritic(model, HIDDEN, lora=False)
    with torch.no_grad():
        with Tap(model, critic.depth).open() as taken:
            full = model.model(IDS, attention_mask=ATTENTION).last_hidden_state
        top = critic._run(taken[0], ATTENTION)
    torch.testing.assert_close(attended(top), attended(full), atol=1e-5, rtol=0.0)


SMALL = {
    "vocab_size": 16, "hidden_size": HIDDEN, "intermediate_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 2, "num_key_value_heads": 1, "pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 0,
}  # fmt: skip


@pytest.mark.parametrize("config", [LlamaConfig(**SMALL), GraniteConfig(**SMALL, embedding_multiplier=12.0)])
def test_other_architectures(config: Any) -> None:
    """Granite scales its embeddings, which must not happen to hidden states again."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    critic = TopCritic(model, HIDDEN, lora=False)
    with torch.no_grad():
        with Tap(model, critic.depth).open() as taken:
            full = model.model(IDS, attention_mask=ATTENTION).last_hidden_state
        torch.testing.assert_close(
            attended(critic._run(taken[0], ATTENTION)), attended(full), atol=1e-5, rtol=0.0
        )


def test_an_architecture_without_layers_is_a_user_error() -> None:
    model = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=16, n_embd=32, n_layer=2, n_head=2))
    with pytest.raises(UsageError, match="GPT2Model") as caught:
        TopCritic(model, 32, lora=False)
    assert caught.value.fix == "set ppo.critic to mlp or shared"


def test_every_process_makes_the_same_adapter() -> None:
    made = []
    for seed in (7, 8):
        torch.manual_seed(seed)
        model = policy()
        LoraTopCritic(model, HIDDEN, lora())
        made.append(adapter_of(model, "critic"))
    assert made[0].keys() == made[1].keys()
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


# -- what they train -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("design", [LoraTopCritic, LoraCritic])
def test_only_the_critics_own_weights_learn(design: Any) -> None:
    model = policy()
    critic = design(model, HIDDEN, lora())
    own, others = adapter_of(model, "critic"), adapter_of(model, "default")
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    wanted = {n: p.requires_grad for n, p in others.items()}
    assert all(wanted.values())
    assert not any(p.requires_grad for p in own.values())  # the policy's optimizer must not find them
    assert {id(p) for p in critic.trained_parameters()} >= {id(p) for p in own.values()}
    layers = {int(n.split(".layers.")[1].split(".")[0]) for n in own}
    assert layers == ({3} if design is LoraTopCritic else {0, 1, 2, 3})

    critic.scale.update(Moments(torch.tensor(0.5), torch.tensor(0.5), torch.tensor(9.0)), critic.head)
    batch = CriticBatch(IDS, ATTENTION, LENGTH, features_of(model, critic.depth) if critic.depth else None)
    mask = torch.ones(3, LENGTH)
    returns = torch.tensor([[0.0] * 3, [1.0] * 3, [0.5] * 3])
    optimizer = CriticOptimizer(critic, 0.02, 1.0, identity)
    settings = FitSettings(60, 2, 1, None, 1.0)
    loss = fit(critic, optimizer, batch, torch.full((3, 3), 0.5), returns, mask, mask.sum(), settings)

    assert loss.item() < 0.05
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert moved <= own.keys()
    assert {n.split(".lora_")[1][0] for n in moved} == {"A", "B"}
    assert all(p.grad is None for n, p in model.named_parameters() if n not in own)
    assert {n: p.requires_grad for n, p in others.items()} == wanted
    assert not any(p.requires_grad for p in own.values())


def gradients(checkpointing: bool) -> dict[str, Tensor]:
    model = policy()
    critic = LoraTopCritic(model, HIDDEN, lora())
    batch = batch_for(critic, model)
    with torch.no_grad():
        critic.head.weight.fill_(0.1)
        for name, parameter in adapter_of(model, "critic").items():
            if "lora_B" in name:
                parameter.fill_(0.05)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    with critic.active():
        critic(batch).square().sum().backward()
    return {n: p.grad.clone() for n, p in adapter_of(model, "critic").items() if p.grad is not None}


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    plain, recomputed = gradients(False), gradients(True)
    assert len(plain) == 14  # two matrices for each of a layer's seven linear maps
    assert all(g.abs().sum() > 0 for g in plain.values())
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed[name], gradient, atol=1e-6, rtol=1e-5)


def test_a_copied_top_trains_its_copy_alone() -> None:
    model = toys.qwen3(hidden=HIDDEN)
    critic = TopCritic(model, HIDDEN, lora=False)
    with torch.no_grad():
        critic.head.weight.fill_(0.1)
        with Tap(model, critic.depth).open() as taken:
            model(input_ids=IDS, attention_mask=ATTENTION)
    critic(CriticBatch(IDS, ATTENTION, LENGTH, taken[0])).square().sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert all(p.grad is not None for p in critic.parameters())
    mine = {id(p) for p in critic.parameters()}
    assert mine.isdisjoint({id(p) for p in model.parameters()})


# -- switching adapters ----------------------------------------------------------------------------------------------


def test_switching_restores_even_after_an_error() -> None:
    model = policy()
    LoraTopCritic(model, HIDDEN, lora())
    plain = last_states(model, "default")
    wanted = {n: p.requires_grad for n, p in model.named_parameters()}
    with pytest.raises(RuntimeError, match="on purpose"), active_adapter(model, None):
        raise RuntimeError("on purpose")
    with torch.no_grad():
        again = backbone_of(model)(input_ids=IDS, attention_mask=ATTENTION).last_hidden_state
    assert torch.equal(again, plain)
    assert {n: p.requires_grad for n, p in model.named_parameters()} == wanted


def test_no_adapter_is_the_base_model() -> None:
    model = policy(seed=3)
    base = toys.qwen3(hidden=HIDDEN, seed=3)
    with torch.no_grad():
        expected = base.model(IDS, attention_mask=ATTENTION).last_hidden_state
    torch.testing.assert_close(attended(last_states(model, None)), attended(expected), atol=1e-6, rtol=0.0)


def test_switches_nest() -> None:
    model = policy()
    with active_adapter(model, None):
        inside = last_states(model, None)
        assert not torch.equal(last_states(model, "default"), inside)
        with torch.no_grad():
            after = backbone_of(model)(input_ids=IDS, attention_mask=ATTENTION).last_hidden_state
        assert torch.equal(after, inside)


# -- taps ------------------------------------------------------------------------------------------------------------


def test_a_tap_takes_what_enters_the_layer() -> None:
    model = toys.qwen3(hidden=HIDDEN)
    with torch.no_grad():
        every = model(input_ids=IDS, output_hidden_states=True).hidden_states
        for depth in (0, 2):
            with Tap(model, depth).open() as taken:
                model(input_ids=IDS)
            assert torch.equal(taken[0], every[depth])


def test_a_tap_lets_go_after_an_error() -> None:
    model = toys.qwen3(hidden=HIDDEN)
    tap = Tap(model, 1)
    with pytest.raises(RuntimeError, match="on purpose"), tap.open():
        raise RuntimeError("on purpose")
    model(input_ids=IDS)
    assert tap.taken == []
