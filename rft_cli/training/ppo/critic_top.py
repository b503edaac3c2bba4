"""The critic that re-reads the reference's hidden states with the top quarter of the layers.

The lower layers run once, in the reference pass that the KL needs anyway; each critic pass then costs a quarter of a
forward and backward pass. With LoRA the top layers are the policy's own, seen through an adapter named `critic`; with
full fine-tuning they are a copy.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from rft_cli.training.ppo.adapters import active_adapter
from rft_cli.training.ppo.critic import Critic, CriticBatch, before_each_token
from rft_cli.training.rollouts.backbone import backbone_of, layers_of

CRITIC_ADAPTER = "critic"


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
    for scale in ("embedding_multiplier", "embedding_scale"):
        if hasattr(view, scale):  # Granite's kind scale embeddings; hidden states have that behind them
            setattr(view, scale, 1.0)
    return view


class TopCritic(Critic):
    """See the module's docstring. This module owns the head, the final norm and, without LoRA, a copy of the layers."""

    def __init__(self, policy: nn.Module, hidden_size: int, lora: bool) -> None:
        super().__init__(hidden_size)
        backbone = backbone_of(policy)
        layers = layers_of(backbone)
        self.depth = top_depth(len(layers))
        top = nn.ModuleList(layers[self.depth :])
        if not lora:
            top = copy.deepcopy(top).requires_grad_(True)
            self.layers = top
        final = getattr(backbone, "norm", None)
        self.norm = (
            copy.deepcopy(final).requires_grad_(True) if isinstance(final, nn.Module) else nn.Identity()
        )
        view = top_view(backbone, top, self.depth)
        view._modules["norm"] = self.norm
        self._view = [view]

    def forward(self, batch: CriticBatch) -> Tensor:
        assert batch.features is not None
        hidden = self._run(batch.features, batch.attention_mask)
        return self.read(before_each_token(hidden, batch.completion_length))

    def _run(self, features: Tensor, attention_mask: Tensor) -> Tensor:
        view = self._view[0]
        output = view(inputs_embeds=features, attention_mask=attention_mask, use_cache=False)
        return output.last_hidden_state


class OnAdapter(Critic):
    """A critic on the policy's own weights, through an adapter named `critic` on the layers from `first_layer` up.

    Outside of its own passes the adapter is frozen, so that the policy's optimizer, gradient norm and DDP never see
    it, and the policy's adapter stays as it was.
    """

    def attach(self, policy: Any, config: PeftLoraConfig, first_layer: int) -> None:
        """Add the adapter where the policy has its own; its weights are the same in every process."""
        layers = list(layers_of(backbone_of(policy)))[first_layer:]
        inside = {module for layer in layers for module in layer.modules()}
        own = copy.deepcopy(config)
        own.target_modules = [
            name
            for name, module in policy.get_base_model().named_modules()
            if isinstance(module, BaseTunerLayer) and module in inside
        ]
        trainable = [p for p in policy.parameters() if p.requires_grad]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            policy.add_adapter(CRITIC_ADAPTER, own)
        for p in trainable:
            p.requires_grad_(True)
        self._policy = [policy]  # in a list, so that it is not a submodule of the critic
        self._freeze(True)

    def _adapter(self) -> list[nn.Parameter]:
        """Looked up each time: FSDP replaces parameters."""
        return [p for n, p in self._policy[0].named_parameters() if f".{CRITIC_ADAPTER}." in n]

    def _freeze(self, frozen: bool) -> None:
        for p in self._adapter():
            p.requires_grad_(not frozen)

    @contextmanager
    def active(self) -> Iterator[None]:
        self._freeze(False)
        try:
            with active_adapter(self._policy[0], CRITIC_ADAPTER):
                yield
        finally:
            self._freeze(True)

    def trained_parameters(self) -> list[nn.Parameter]:
        return [*super().trained_parameters(), *self._adapter()]


class LoraTopCritic(OnAdapter, TopCritic):
    """The top layers are the policy's, with the critic's adapter switched on for the pass and its backward pass."""

    def __init__(self, policy: nn.Module, hidden_size: int, config: PeftLoraConfig) -> None:
        super().__init__(policy, hidden_size, lora=True)
        assert self.depth is not None
        self.attach(policy, config, self.depth)


class LoraCritic(OnAdapter):
    """An adapter on all layers: the costliest, it reads the tokens itself."""

    def __init__(self, policy: nn.Module, hidden_size: int, config: PeftLoraConfig) -> None:
        super().__init__(hidden_size)
        self.attach(policy, config, 0)

    def forward(self, batch: CriticBatch) -> Tensor:
        backbone = backbone_of(self._policy[0])
        output = backbone(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
        return self.read(before_each_token(output.last_hidden_state, batch.completion_length))
