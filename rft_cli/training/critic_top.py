"""The critic that re-reads the reference's hidden states with the top quarter of the layers.

The lower layers run once, in the reference pass that the KL needs anyway; each critic pass then costs a quarter of a
forward and backward pass. With LoRA the top layers are the policy's own, seen through an adapter named `critic`; with
full fine-tuning they are a copy.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from contextlib import AbstractContextManager
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from torch import Tensor, nn

from rft_cli.errors import UsageError
from rft_cli.training.adapters import active_adapter
from rft_cli.training.critic import Critic, CriticBatch

CRITIC_ADAPTER = "critic"


def backbone_of(model: nn.Module) -> nn.Module:
    """The decoder without its language-model head, under PEFT or not."""
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    return inner.base_model  # type: ignore[no-any-return]


def layers_of(backbone: nn.Module) -> nn.ModuleList:
    """The decoder's layers; raises where the architecture keeps them elsewhere."""
    layers = getattr(backbone, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise UsageError(
            f"the critic `top` does not know where {type(backbone).__name__} keeps its layers",
            "set ppo.critic to mlp or shared",
        )
    return layers


def top_depth(n_layers: int) -> int:
    """Index of the first layer the critic owns: a quarter of the layers, at least one."""
    return n_layers - max(1, n_layers // 4)


def top_view(backbone: nn.Module, layers: nn.ModuleList, depth: int) -> nn.Module:
    """A backbone of the same class that runs `layers` alone on `inputs_embeds`, sharing every other module.

    Wrappers' hooks (FSDP's root, for one) stay behind: they belong to the whole model's forward pass.
    """
    view = copy.copy(backbone)
    view._modules = {**backbone._modules, "layers": layers}
    for hooks in ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks"):
        setattr(view, hooks, OrderedDict())
    config: Any = copy.deepcopy(backbone.config)
    config.num_hidden_layers = len(layers)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[depth:]
    view.config = config
    return view


class TopCritic(Critic):
    """See the module's docstring. `policy` keeps its parameters; this module owns the head and, without LoRA, a copy."""

    def __init__(self, policy: nn.Module, hidden_size: int, lora: bool) -> None:
        super().__init__(hidden_size)
        backbone = backbone_of(policy)
        layers = layers_of(backbone)
        self.depth = top_depth(len(layers))
        top = nn.ModuleList(layers[self.depth :])
        self._policy = [policy] if lora else []  # in a list, so that it is not a submodule of the critic
        if not lora:
            top = copy.deepcopy(top).requires_grad_(True)
            self.layers = top
        self.norm = (
            copy.deepcopy(backbone.norm).requires_grad_(True) if hasattr(backbone, "norm") else nn.Identity()
        )
        view = top_view(backbone, top, self.depth)
        view._modules["norm"] = self.norm
        self._view = [view]

    def forward(self, batch: CriticBatch) -> Tensor:
        assert batch.features is not None
        return self.read(self._run(batch.features, batch.attention_mask), batch.completion_length)

    def _run(self, features: Tensor, attention_mask: Tensor) -> Tensor:
        view = self._view[0]
        output = view(inputs_embeds=features, attention_mask=attention_mask, use_cache=False)
        return output.last_hidden_state  # type: ignore[no-any-return]


def add_critic_adapter(
    policy: Any, config: PeftLoraConfig, first_layer: int, n_layers: int
) -> list[nn.Parameter]:
    """Add the adapter `critic` to layers `first_layer`... of a PEFT policy; returns its parameters.

    The policy's own adapter stays active and trainable.
    """
    own = copy.deepcopy(config)
    own.layers_to_transform = list(range(first_layer, n_layers))
    trainable = [p for p in policy.parameters() if p.requires_grad]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy.add_adapter(CRITIC_ADAPTER, own)
    parameters = [p for n, p in policy.named_parameters() if f".{CRITIC_ADAPTER}." in n]
    for p in (*trainable, *parameters):
        p.requires_grad_(True)
    return parameters


class LoraTopCritic(TopCritic):
    """The top layers are the policy's, with the critic's adapter switched on for the pass (and its backward)."""

    def __init__(self, policy: nn.Module, hidden_size: int, config: PeftLoraConfig) -> None:
        super().__init__(policy, hidden_size, lora=True)
        n_layers = len(layers_of(backbone_of(policy)))
        assert self.depth is not None
        self._adapter = add_critic_adapter(policy, config, self.depth, n_layers)

    def active(self) -> AbstractContextManager[None]:
        return active_adapter(self._policy[0], CRITIC_ADAPTER)

    def trained_parameters(self) -> list[nn.Parameter]:
        return [*super().trained_parameters(), *self._adapter]


class LoraCritic(Critic):
    """An adapter on all layers: the costliest, it reads the tokens itself."""

    def __init__(self, policy: nn.Module, hidden_size: int, config: PeftLoraConfig) -> None:
        super().__init__(hidden_size)
        self._policy = [policy]
        self._adapter = add_critic_adapter(policy, config, 0, len(layers_of(backbone_of(policy))))

    def forward(self, batch: CriticBatch) -> Tensor:
        backbone = backbone_of(self._policy[0])
        output = backbone(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        return self.read(output.last_hidden_state, batch.completion_length)

    def active(self) -> AbstractContextManager[None]:
        return active_adapter(self._policy[0], CRITIC_ADAPTER)

    def trained_parameters(self) -> list[nn.Parameter]:
        return [*super().trained_parameters(), *self._adapter]
