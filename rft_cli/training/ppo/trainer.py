"""PPO as a thin subclass of TRL's GRPOTrainer: wiring, no formulas.

TRL keeps generation, rollout buffering, PEFT, Accelerate, FSDP and DeepSpeed. Two seams are overridden here and two in
`scored_rollouts.py` (their signatures are checked by a test, because they are TRL's private API):

- `_generate_and_score_completions`: adds values, KL in the reward, GAE; trains a critic that has its own passes.
- `_compute_loss`: PPO's clipped losses as a token mean over all processes.

Differences from Schulman et al. 2017: a prompt's other completions correct the critic's value of the prompt
(`advantages.group_centred`); advantages are divided by the spread of the job's rewards (`spread.py`) and not whitened
batch by batch; the KL to the reference stands in the token rewards (k1), as in Ziegler et al. 2019, so TRL's own `beta`
stays 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers import TrainerCallback
from trl import GRPOTrainer

from rft_cli.training.ppo import advantages as adv
from rft_cli.training.ppo.adapters import active_adapter
from rft_cli.training.ppo.critic import Critic, CriticBatch, CriticOptimizer, FitSettings, fit
from rft_cli.training.ppo.losses import PolicyTerms, masked_sum, policy_terms, value_terms
from rft_cli.training.ppo.settings import PPOSettings
from rft_cli.training.ppo.taps import Tap
from rft_cli.training.rollouts.moments import counting, masked_moments
from rft_cli.training.rollouts.rewards import GraderReward
from rft_cli.training.rollouts.scored_rollouts import ScoredRollouts
from rft_cli.training.rollouts.scoring import Scores
from rft_cli.training.rollouts.shared_prompts import distinct_prompts


class _StepsWithPolicy(TrainerCallback):
    """A joint critic's head gets its gradients from the policy's backward pass, and steps when the policy does."""

    def __init__(self, trainer: PPOTrainer) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        if self._trainer.skipping:
            self._trainer.critic_optimizer.forget()
        else:
            self._trainer.critic_optimizer.step()


class PPOTrainer(ScoredRollouts, GRPOTrainer):
    """See the module's docstring.

    Args:
        make_critic: builds the critic for the model as TRL has wrapped it; it stays outside of that model.
        reference: the frozen copy of a fully fine-tuned policy; None with LoRA, where the adapter off is the reference.
    """

    skipping = False  # the policy's step is skipped: what shares its backward pass must not step either

    def __init__(
        self,
        *,
        settings: PPOSettings,
        make_critic: Callable[[nn.Module], Critic],
        reference: nn.Module | None,
        reward: GraderReward,
        **kwargs: Any,
    ) -> None:
        super().__init__(reward_funcs=[reward], **kwargs)
        self.ppo = settings
        self.reward = reward
        critic = make_critic(self.model)
        self.critic = critic.to(self.accelerator.device)
        self.reference = None if reference is None else reference.to(self.accelerator.device)
        if critic.joint:
            self.add_callback(_StepsWithPolicy(self))
        self.rollouts_seen = 0
        self._rolled: Scores | None = None  # of the rollout batch that TRL is making
        self._step_sums: Tensor | None = None  # of the current optimizer step's passes
        scored: nn.Module = self.model if reference is None else reference
        self._tap = None if critic.depth is None else Tap(scored, critic.depth)

    @cached_property
    def critic_optimizer(self) -> CriticOptimizer:
        """Made on first use, when the model is wrapped."""
        settings = self.ppo
        return CriticOptimizer(
            self.critic, settings.critic_learning_rate, settings.max_grad_norm, self._mean_over_processes
        )

    @contextmanager
    def _gradients_synced(self) -> Iterator[None]:
        """The critic steps inside an accumulation window, where FSDP2 would keep its gradients unsharded."""
        model = self.model_wrapped
        if not isinstance(model, FSDPModule):
            yield
            return
        model.set_requires_gradient_sync(True)
        try:
            yield
        finally:
            model.set_requires_gradient_sync(self.accelerator.sync_gradients)

    # -- rollouts ----------------------------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        started = perf_counter()
        batch = super()._generate_and_score_completions(inputs)
        self._add_advantages(batch)
        self.rollouts_seen += 1
        self._note(rollout_seconds=perf_counter() - started)
        return batch

    def _keep(self, scores: Scores) -> None:
        self._rolled = scores

    @torch.no_grad()
    def _add_advantages(self, batch: dict[str, Any]) -> None:
        """Values, token rewards and advantages; writes them into `batch` and trains a separate critic."""
        settings = self.ppo
        length = batch["completion_ids"].size(1)
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)

        groups = distinct_prompts(batch["prompt_ids"], batch["prompt_mask"]).where
        rolled = self._rolled or self._score(self.model, ids, attention, length)
        self._rolled = None
        old_logps = rolled.logps
        reference_logps, features = self._reference_pass(ids, attention, length)

        rewards = self._rewards(self.reward)
        mask = batch["completion_mask"] * (~rewards.isnan()).unsqueeze(1).to(batch["completion_mask"])
        sound = adv.finite_rows(adv.kl_k1(old_logps, reference_logps), mask)
        not_finite = self._sum_over_processes((~sound).sum().float())
        mask = mask * sound.unsqueeze(1).to(mask)  # one such completion would spoil every mean
        old_logps, reference_logps = counting(old_logps, mask), counting(reference_logps, mask)
        kl = adv.kl_k1(old_logps, reference_logps)
        self._observe(rewards, mask.any(dim=1))
        unit = self.spread.value
        kl_coef = settings.kl_coef * (unit if settings.kl_unit == "spread" else 1.0)
        token_reward = adv.token_rewards(rewards, kl, mask, kl_coef)

        own = CriticBatch(ids, attention, length, features)
        old_values = self.critic.scale.to_raw(self._values(own, rolled.states)) * mask
        done = adv.advantages_and_returns(
            token_reward, old_values, mask, settings.gamma, settings.lambda_policy, settings.lambda_value
        )
        moments = masked_moments(done.returns, mask, self._sum_over_processes)
        if self.rollouts_seen == 0:
            # The very first values are a constant 0: every completion would look good or bad as one. The mean return
            # is the critic's better first word.
            self.critic.scale.update(moments, self.critic.head)
            old_values = self.critic.scale.to_raw(self._values(own, rolled.states)) * mask
            done = adv.advantages_and_returns(
                token_reward, old_values, mask, settings.gamma, settings.lambda_policy, settings.lambda_value
            )
        if self.critic.learns:
            explained = adv.explained_variance(old_values, done.returns, mask, self._sum_over_processes)
            self._note(explained_variance=explained)
        tokens = self._sum_over_processes(mask.sum().float())
        if self.rollouts_seen > 0:
            self.critic.scale.update(moments, self.critic.head)

        centred = adv.group_centred(done.advantages, token_reward, old_values, mask, groups, settings.gamma)
        batch["advantages"] = centred / unit
        batch["old_per_token_logps"] = old_logps
        batch["loss_mask"] = mask
        batch["num_items_in_batch"] = tokens
        if self.critic.joint:
            batch["old_values"] = self.critic.scale.to_normalised(old_values)
            batch["value_targets"] = self.critic.scale.to_normalised(done.returns)
        elif self.critic.learns:
            with torch.enable_grad(), self._gradients_synced():
                self._fit_critic(own, old_values, done.returns, mask, tokens)

        k3 = adv.kl_k3(old_logps, reference_logps)
        sums = self._sum_over_processes(torch.stack([kl.sum(), k3.sum(), mask.any(dim=1).sum().to(kl.dtype)]))
        self._note(
            kl=sums[0]
            / sums[2],  # without a graded completion NaN, which TRL logs as None: there is no such mean
            kl_k3=sums[1] / sums[2],
            kl_per_token=sums[0] / tokens,
            return_mean=moments.mean,
            return_std=moments.std,
            rollouts_not_finite=not_finite,
        )

    def _reference_pass(self, ids: Tensor, attention: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The reference's log-probabilities `(B, T)` and the features that a critic of its own reads."""
        model: nn.Module = self.model if self.reference is None else self.reference
        adapter_off = active_adapter(model, None) if self.reference is None else nullcontext()
        tapped = nullcontext() if self._tap is None else self._tap.open()
        with adapter_off, tapped as taken:
            scores = self._score(model, ids, attention, length, whole=self._tap is not None)
        return scores.logps, scores.states if taken is None else torch.cat(taken)

    def _values(self, batch: CriticBatch, states: Tensor) -> Tensor:
        """Normalised values `(B, T)` of the rollout batch, without gradients."""
        if self.critic.joint:
            return self.critic.read(states)
        chunk = self.args.per_device_train_batch_size
        rows = torch.arange(batch.input_ids.size(0), device=batch.input_ids.device)
        with self.critic.active(), self.accelerator.autocast():
            return torch.cat([self.critic(batch.rows(index)) for index in rows.split(chunk)])

    def _fit_critic(
        self, batch: CriticBatch, old_values: Tensor, returns: Tensor, mask: Tensor, tokens: Tensor
    ) -> None:
        loss = fit(
            self.critic,
            self.critic_optimizer,
            batch,
            old_values,
            returns,
            mask,
            tokens / self.accelerator.num_processes,
            FitSettings(
                passes=self.ppo.critic_passes,
                micro_batch_size=self.args.per_device_train_batch_size,
                minibatches=self.ppo.minibatches,
                value_clip=self.ppo.value_clip,
                max_grad_norm=self.ppo.max_grad_norm,
            ),
            self.accelerator.autocast,
        )
        self._note(value_loss=self._mean_over_processes(loss))

    # -- loss --------------------------------------------------------------------------------------------------------

    @property
    def warming_up(self) -> bool:
        """True while the critic alone learns from the current rollout batch."""
        return self.critic.learns and self.rollouts_seen <= self.ppo.critic_warmup

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        settings, mask = self.ppo, inputs["loss_mask"]
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        attention = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
        length = inputs["completion_ids"].size(1)

        scores = self._score(model, ids, attention, length)
        entropy = scores.entropy
        assert entropy is not None
        terms = policy_terms(
            scores.logps,
            inputs["old_per_token_logps"],
            inputs["advantages"],
            settings.clip_low,
            settings.clip_high,
        )
        tokens = self._tokens_per_step(inputs)
        weight = 0.0 if self.warming_up else 1.0
        objective = terms.loss - settings.entropy_coef * entropy
        loss = weight * masked_sum(objective, mask) / tokens
        value = torch.zeros_like(terms.loss)
        if self.critic.joint:
            states = scores.states.detach() if self.warming_up else scores.states
            values = self.critic.read(states)
            value = value_terms(values, inputs["old_values"], inputs["value_targets"], settings.value_clip)
            loss = loss + settings.value_coef * masked_sum(value, mask) / tokens

        self._note_loss(terms.loss.detach(), value.detach(), entropy.detach(), terms, mask)
        return loss

    def forget_step(self) -> None:
        """Drop the step's gradients, the joint critic's too, and what it has summed for metrics."""
        super().forget_step()
        self._step_sums = None
        if self.critic.joint:
            self.critic_optimizer.forget()

    def _tokens_per_step(self, inputs: dict[str, Any]) -> Tensor:
        """Mean counting tokens of one optimizer step in one process: the token mean's denominator.

        Gradients are averaged over processes and summed over accumulation, so this makes the loss of a step the mean
        over the tokens of all processes (TRL's `dapo` normalisation).
        """
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        arguments: Any = self.args
        return tokens * self.current_gradient_accumulation_steps / arguments.steps_per_generation

    def _note_loss(
        self, policy: Tensor, value: Tensor, entropy: Tensor, terms: PolicyTerms, mask: Tensor
    ) -> None:
        """Add this pass's `(B, T)` terms to the step's sums; the step's last pass notes their token means."""
        with torch.no_grad():
            parts = (policy, value, entropy, terms.ratio, terms.clipped.to(entropy.dtype))
            sums = torch.stack([*(masked_sum(x, mask) for x in parts), mask.sum().to(entropy.dtype)])
        self._step_sums = sums if self._step_sums is None else self._step_sums + sums
        if not self.accelerator.sync_gradients:
            return
        totals = self._sum_over_processes(self._step_sums)
        self._step_sums = None
        means = (totals[:5] / totals[5]).tolist()
        self._note(policy_loss=means[0], entropy=means[2], ratio=means[3], clip_fraction=means[4])
        if self.critic.joint:
            self._note(value_loss=means[1])
