"""PPO as a thin subclass of TRL's GRPOTrainer: wiring, no formulas.

TRL keeps generation, rollout buffering, PEFT, Accelerate, FSDP and DeepSpeed. Two of its methods are overridden here,
others in `rollout_trainer.py` (a test checks their signatures, because they are TRL's private API):

- `_generate_and_score_completions`: adds values, KL in the reward, GAE; trains the critic.
- `_compute_loss`: PPO's clipped loss as a token mean over all processes.

Differences from Schulman et al. 2017: a prompt's other completions correct the critic's value of the prompt
(`advantages.group_centred`); advantages are divided by the spread of the job's rewards (`statistics.py`) and not
whitened batch by batch; the KL to the reference is in the token rewards (k1), as in Ziegler et al. 2019, so TRL's own
`beta` stays 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from trl import GRPOTrainer

from rft_cli.config.training_sections import PPOConfig
from rft_cli.training.distributed.sharding import placed_reference
from rft_cli.training.ppo import advantages as adv
from rft_cli.training.ppo.critic import Critic, CriticOptimizer, CriticSettings, MlpCritic
from rft_cli.training.ppo.losses import PolicyTerms, masked_sum, policy_terms
from rft_cli.training.rollouts.backbone import adapter_off
from rft_cli.training.rollouts.rewards import GraderReward
from rft_cli.training.rollouts.rollout import Tokens
from rft_cli.training.rollouts.rollout_trainer import RolloutTrainer
from rft_cli.training.rollouts.scoring import Scores
from rft_cli.training.rollouts.shared_prompts import distinct_prompts
from rft_cli.training.rollouts.statistics import counting, masked_moments


class PPOTrainer(RolloutTrainer, GRPOTrainer):
    """See the module's docstring.

    Args:
        settings: without `passes` and `minibatches`, which TRL's arguments have, and without the critic's settings.
        warmup: rollout batches from which the critic alone learns.
        critic: stays outside of the model that TRL wraps.
        reference: the frozen copy of a fully fine-tuned policy; None with LoRA, where the adapter off is the reference.
    """

    def __init__(
        self,
        *,
        settings: PPOConfig,
        warmup: int,
        critic: Critic,
        fitting: CriticSettings,
        reference: nn.Module | None,
        reward: GraderReward,
        **kwargs: Any,
    ) -> None:
        super().__init__(reward_funcs=[reward], **kwargs)
        self.ppo = settings
        self.warmup = warmup
        self.reward = reward
        self.critic = critic.to(self.accelerator.device)
        self.critic_optimizer = (
            CriticOptimizer(critic, fitting, self._mean_over_processes)
            if isinstance(critic, MlpCritic)
            else None
        )
        self.reference = None if reference is None else placed_reference(reference, self.accelerator)
        # Of the current optimizer step's passes.
        self._step_sums: Tensor | None = None

    def critic_state(self) -> dict[str, Any]:
        """The critic's parameters, scale and optimizer."""
        optimizer = self.critic_optimizer
        return {
            "parameters": [p.detach().cpu() for p in self.critic.parameters()],
            "scale": self.critic.scale.state_dict(),
            "optimizer": None if optimizer is None else optimizer.inner.state_dict(),
        }

    def load_critic_state(self, state: dict[str, Any]) -> None:
        self.critic.scale.load_state_dict(state["scale"])
        # Earlier versions saved a head for the critic `none` too, which nothing reads.
        if self.critic_optimizer is not None:
            for parameter, saved in zip(self.critic.parameters(), state["parameters"], strict=True):
                with torch.no_grad():
                    parameter.copy_(saved)
            self.critic_optimizer.load(state["optimizer"])

    # -- rollouts ----------------------------------------------------------------------------------------------------

    @property
    def _keeps_old(self) -> bool:
        return True

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        # Before the grades are awaited.
        reference = self._reference_scores(self._tokens(self._rollout))
        batch = super()._generate_and_score_completions(inputs)
        self._add_advantages(batch, reference)
        self.rollouts_seen += 1
        return batch

    @torch.no_grad()
    def _add_advantages(self, batch: dict[str, Any], reference: Scores) -> None:
        """Write token rewards' advantages into `batch`, and train the critic."""
        settings = self.ppo
        groups = distinct_prompts(batch["prompt_ids"], batch["prompt_mask"]).where
        old_logps, reference_logps = batch["old_per_token_logps"], reference.logps

        rewards = self._rewards(self.reward)
        mask = batch["completion_mask"] * (~rewards.isnan()).unsqueeze(1).to(batch["completion_mask"])
        sound = adv.finite_rows(adv.kl_k1(old_logps, reference_logps), mask)
        not_finite = self._sum_over_processes((~sound).sum().float())
        # One completion that is not finite would spoil every mean.
        mask = mask * sound.unsqueeze(1).to(mask)
        old_logps, reference_logps = counting(old_logps, mask), counting(reference_logps, mask)
        kl = adv.kl_k1(old_logps, reference_logps)
        self._observe(rewards, mask.any(dim=1))
        unit = self.spread.value
        kl_coef = settings.kl_coef * (unit if settings.kl_unit == "spread" else 1.0)
        token_reward = adv.token_rewards(rewards, kl, mask, kl_coef)

        normalised = self._values(reference.states)
        old_values, done = self._estimate(normalised, token_reward, mask)
        moments = masked_moments(done.returns, mask, self._sum_over_processes)
        if self.rollouts_seen == 0:
            # The very first values are 0, which would make all advantages positive or all negative: the mean return is
            # a better first value.
            self.critic.update_scale(moments)
            old_values, done = self._estimate(normalised, token_reward, mask)
        else:
            self.critic.update_scale(moments)
        tokens = self._sum_over_processes(mask.sum().float())

        centred = adv.group_centred(done.advantages, token_reward, old_values, mask, groups, settings.gamma)
        batch["advantages"] = self._corrected(centred / unit, old_logps, mask)
        batch["old_per_token_logps"] = old_logps
        batch["loss_mask"] = mask
        batch["num_items_in_batch"] = tokens
        if self.critic_optimizer is not None:
            explained = adv.explained_variance(old_values, done.returns, mask, self._sum_over_processes)
            share = tokens / self.accelerator.num_processes
            with torch.enable_grad():
                loss = self.critic_optimizer.fit(reference.states, old_values, done.returns, mask, share)
            self._note(explained_variance=explained, value_loss=self._mean_over_processes(loss))
        self._note(rollouts_not_finite=not_finite, return_mean=moments.mean, return_std=moments.std)
        self._note_kl(kl, adv.kl_k3(old_logps, reference_logps), mask, tokens)

    @torch.no_grad()
    def _reference_scores(self, tokens: Tokens) -> Scores:
        """The reference's log-probabilities, and the hidden states that the critic reads."""
        if self.reference is not None:
            return self._score(self.reference, tokens.ids, tokens.attention, tokens.length)
        with adapter_off(self.model):
            return self._score(self.model, tokens.ids, tokens.attention, tokens.length)

    def _values(self, states: Tensor) -> Tensor:
        """Normalised values `(B, T)` of the rollout batch."""
        return torch.cat([self.critic(part) for part in states.split(self.args.per_device_train_batch_size)])

    def _estimate(
        self, normalised: Tensor, token_reward: Tensor, mask: Tensor
    ) -> tuple[Tensor, adv.AdvantagesAndReturns]:
        """Values in raw reward units `(B, T)`, and the advantages and returns that follow from them."""
        ppo = self.ppo
        values = self.critic.scale.to_raw(normalised) * mask
        return values, adv.advantages_and_returns(
            token_reward, values, mask, ppo.gamma, ppo.lambda_policy, ppo.lambda_value
        )

    def _note_kl(self, k1: Tensor, k3: Tensor, mask: Tensor, tokens: Tensor) -> None:
        """Means of both estimators `(B, T)`; NaN where no completion has a grade, which TRL logs as None."""
        rows = mask.any(dim=1).sum().to(k1.dtype)
        sums = self._sum_over_processes(torch.stack([k1.sum(), k3.sum(), rows]))
        self._note(kl=sums[0] / sums[2], kl_k3=sums[1] / sums[2], kl_per_token=sums[0] / tokens)

    # -- loss --------------------------------------------------------------------------------------------------------

    @property
    def warming_up(self) -> bool:
        """True while the critic alone learns from the current rollout batch."""
        return self.critic.learns and self.rollouts_seen <= self.warmup

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
        self._note_loss(terms, entropy.detach(), mask)
        return loss

    def forget_step(self) -> None:
        """Drop the step's gradients, and what it has summed for metrics."""
        super().forget_step()
        self._step_sums = None

    def _tokens_per_step(self, inputs: dict[str, Any]) -> Tensor:
        """Mean counting tokens of one optimizer step in one process: the token mean's denominator.

        Gradients are averaged over processes and summed over accumulation, so this makes the loss of a step the mean
        over the tokens of all processes (TRL's `dapo` normalisation).
        """
        tokens = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes
        return tokens * self.current_gradient_accumulation_steps / self.args.steps_per_generation

    def _note_loss(self, terms: PolicyTerms, entropy: Tensor, mask: Tensor) -> None:
        """Add this pass's `(B, T)` terms to the step's sums; the step's last pass notes their token means."""
        with torch.no_grad():
            parts = (terms.loss, entropy, terms.ratio, terms.clipped.to(entropy.dtype))
            sums = torch.stack([*(masked_sum(x, mask) for x in parts), mask.sum().to(entropy.dtype)])
        self._step_sums = sums if self._step_sums is None else self._step_sums + sums
        if not self.accelerator.sync_gradients:
            return
        totals = self._sum_over_processes(self._step_sums)
        self._step_sums = None
        policy, spread, ratio, clipped = (totals[:4] / totals[4]).tolist()
        self._note(policy_loss=policy, entropy=spread, ratio=ratio, clip_fraction=clipped)
