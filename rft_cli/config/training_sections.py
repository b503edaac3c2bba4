"""The settings of sampling, training and validation: every default, unit and effect."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rft_cli.config.section import Auto, Count, Fraction, Names, Positive, Section


class VllmConfig(Section):
    """vLLM for `rollout.engine: vllm`, in a process and an environment of its own: see `docs/engines.md`."""

    python: str | None = None
    """Python of the environment that vLLM is installed in, for example `/opt/vllm/bin/python`. Empty: rft's own."""
    command: list[str] = Field(default_factory=list)
    """Words that start the engine, in place of `PYTHON -m vllm.entrypoints.openai.api_server`; vLLM's arguments follow.
    `[env, CUDA_VISIBLE_DEVICES=1, PYTHON, -m, vllm.entrypoints.openai.api_server]` gives it a GPU of its own."""
    arguments: list[str] = Field(default_factory=list)
    """Further arguments of the engine, for example `[--gpu-memory-utilization=0.4]`."""
    startup_s: Positive = 900.0
    """Seconds that the engine may take to start."""
    timeout_s: Positive = 600.0
    """Seconds that one request of up to 64 completions may take, and one load of weights."""
    api_key_env: str = "none"
    """Name of the environment variable that holds the key of `rollout.endpoint`; `none` for a server without one."""


class RolloutConfig(Section):
    engine: Literal["transformers", "vllm"] = "transformers"
    """What samples completions, in training, pilot and validations. vllm: a vLLM server beside the trainer, which gets
    the weights before each rollout batch (`docs/engines.md`)."""
    endpoint: str | Names | None = None
    """vLLM servers that run already, `http://HOST:8000` or several with commas between them. Empty: rft starts one."""
    importance_cap: Annotated[float, Field(ge=1)] = 2.0
    """With engine vllm: highest importance weight of a token, trainer's probability over sampler's."""
    vllm: VllmConfig = Field(default_factory=VllmConfig)
    group_size: Annotated[int, Field(ge=2)] = 8
    """Completions sampled per prompt in one rollout batch."""
    prompts_per_batch: Count = 16
    """Prompts in one rollout batch (over all processes); lowered where the training file has fewer rows."""
    max_completion_tokens: Count | Auto = "auto"
    """Length limit of a completion in tokens. auto: twice what the model needs in the pilot; never over the context."""
    temperature: Positive | Auto = "auto"
    """Sampling temperature in training. auto: 0.7 under 1 B parameters, else 1."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling in training; 1.0 is off, and keeps log-probabilities true."""
    ahead: Annotated[int, Field(ge=0, le=1)] = 0
    """Rollout batches sampled before their turn. 1: the next batch is sampled before this one is trained on, and graded
    meanwhile: hides a slow grader, and trains on completions of the policy before its last update (docs/algorithm.md).
    """


class PilotConfig(Section):
    """Before anything trains, the base model answers a few training prompts: see `docs/pilot.md`."""

    prompts: Annotated[int, Field(ge=0)] = 16
    """Training prompts that the pilot answers, each `rollout.group_size` times. 0: no pilot."""
    gate: Literal["stop", "warn", "none"] = "stop"
    """Where no prompt has two different rewards: stop: no job, exit code 1; warn: a warning; none: nothing."""


class ValidationConfig(Section):
    samples_per_prompt: Count = 1
    """Completions sampled per validation row."""
    temperature: Annotated[float, Field(ge=0)] = 0.6
    """Sampling temperature of validation; 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling of validation."""
    batch_size: Count | Auto = "auto"
    """Rows sampled at a time in each process. auto: 128 on CPU, 64 on a GPU."""
    every_completions: Count | Auto = "auto"
    """Training completions between validations, in whole rollout batches; the last step is always validated.
    auto: about 600, or twice a validation's own completions, or a twentieth of the job's, whichever is most.
    sft: training rows, in whole steps; auto: 4 to 10 validations a job."""
    every_epochs: Count | Auto = "auto"
    """Epochs between validations, in place of `every_completions`. auto: that one decides."""
    seed: int = 1234
    """Seed of validation sampling: the same model gets the same verdict twice."""


class PPOConfig(Section):
    """PPO's own settings; `passes`, `minibatches`, `kl_coef` and the clip range serve grpo and rloo too."""

    kl_coef: Annotated[float, Field(ge=0)] = 0.005
    """Weight of the per-token KL (k1) in the reward, in units of `kl_unit` a nat. grpo: k3 in the loss."""
    kl_unit: Literal["spread", "reward"] = "spread"
    """Unit of `kl_coef`. spread: standard deviations of the job's rewards, so that a scorer of 0 to 100 trains like one
    of 0 to 1. reward: raw reward. grpo has its own unit: a standard deviation of the group's rewards."""
    passes: Count = 2
    """Passes over each rollout batch."""
    minibatches: Count = 2
    """Optimizer steps in one pass."""
    clip_low: Positive = 0.2
    """The ratio is clipped below at 1 - clip_low."""
    clip_high: Positive = 0.28
    """The ratio is clipped above at 1 + clip_high."""
    gamma: Fraction = 1.0
    """Discount per token."""
    lambda_policy: Fraction = 1.0
    """GAE lambda of the policy's advantages. 1 has no bias from the critic; long completions may want 0.95-0.99."""
    lambda_value: Fraction = 1.0
    """GAE lambda of the critic's targets (1: the return itself)."""
    critic: Literal["none", "mlp"] = "none"
    """none: the prompt's other completions alone are the baseline. mlp: two layers on the reference's hidden states
    predict each token's return (docs/algorithm.md)."""
    critic_learning_rate: Positive | Auto = "auto"
    """Learning rate of the critic."""
    critic_passes: Count = 2
    """Passes of the critic over each rollout batch."""
    critic_warmup: Annotated[int, Field(ge=0)] = 0
    """Rollout batches that train the critic alone before the policy moves; at most a tenth of the job's."""
    value_clip: Positive | None = 0.2
    """Clip range of the value loss around the old values; empty is off."""
    entropy_coef: Annotated[float, Field(ge=0)] = 0.0
    """Weight of an entropy bonus in the policy loss."""


class SFTConfig(Section):
    """`algorithm: sft` learns the rows' references: see `docs/sft.md`."""

    batch_size: Count | Auto = "auto"
    """Rows in one optimizer step, over all processes. auto: 16, or fewer where the training file has few rows."""


class OptimConfig(Section):
    learning_rate: Positive | Auto = "auto"
    """Peak learning rate of the policy. auto: from parameter count, LoRA and algorithm, printed with its reason."""
    n_epochs: Count | Auto = "auto"
    """Passes over the training rows. auto: as many as sample about 3,000 completions (6,000 for a model under 20 M
    parameters), at most 40, or part of one; sft: by the number of rows; printed with its reason."""
    max_steps: Count | None = None
    """Optimizer steps after which the job ends, in whole rollout batches. Empty: `n_epochs` alone decides."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning-rate schedule after warm-up."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps of linear learning-rate warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW weight decay."""
    max_grad_norm: Positive = 1.0
    """Gradient norm above which gradients are scaled down."""
    micro_batch_size: Count | Auto = "auto"
    """Completions (sft: rows) in one forward and backward pass of one process. auto: from device and model size."""
    max_skipped_steps: Count = 3
    """Steps in a row, skipped because loss or gradient was not a finite number, after which the job ends."""


class CheckpointConfig(Section):
    every_steps: Count | Auto = "auto"
    """Optimizer steps between checkpoints beside those of validations. auto: only with validations."""
    keep_last: Count = 2
    """Newest checkpoints kept beside the best."""


class DistributedConfig(Section):
    """Several processes: when one that doesn't answer ends the job."""

    collective_timeout_s: Positive = 600.0
    """Seconds that a process waits for the others in a collective before the job fails, whoever started them. Raise it
    where one has more to do alone: a large checkpoint on a slow drive, a judge that is away."""
    gather_for_sampling: bool = True
    """Under DeepSpeed ZeRO-3, every process holds all weights while it samples. Off: a layer's weights are gathered for
    each token, which is slow, for models that are larger than one GPU."""


class TripwireConfig(Section):
    """Signs that training goes wrong, watched for in every rollout batch; an empty bound turns its wire off."""

    action: Literal["warn", "stop", "none"] = "warn"
    """warn: a warning, once until the figure is good again. stop: a checkpoint, then exit code 3. none: no watch."""
    window: Count = 4
    """Rollout batches over which a figure is averaged before it is compared with its bound."""
    kl: Positive | None = 1.0
    """Highest mean KL to the reference, in nats a completion token (ppo and rloo: k1; grpo: k3)."""
    entropy: Positive | None = 0.001
    """Lowest mean entropy of the policy, in nats a token."""
    completion_growth: Positive | None = 2.5
    """Highest mean completion length, as a multiple of that of the first `window` rollout batches."""
    completion_limit: Fraction | None = 0.9
    """Share of the length limit that completions may have on average."""
    truncated: Fraction | None = 0.2
    """Highest share of completions cut at the length limit."""
    logprob_difference: Positive | Auto | None = "auto"
    """With engine vllm: highest mean difference of the sampler's and the trainer's log-probabilities, in nats a token;
    looked at before a rollout batch is trained on. auto: 0.02, or 0.15 where the job computes in 16 bits."""
    constant_reward: Count | None = 8
    """Rollout batches in a row in which no prompt's completions differ in reward."""
    explained_variance: float | None = -1.0
    """Lowest explained variance of the critic, pooled over `explained_variance_window` rollout batches."""
    explained_variance_window: Count = 16
    """Rollout batches over which the critic is judged."""
