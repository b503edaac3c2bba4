"""RunConfig: every setting of a job, its default, unit and effect; validation and docs come from here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from rft_cli.config.scorers import one_or_several, weighted
from rft_cli.config.section import Auto, Count, Fraction, Names, Positive, Section
from rft_cli.config.training_sections import (
    CheckpointConfig,
    DistributedConfig,
    OptimConfig,
    PilotConfig,
    PPOConfig,
    RolloutConfig,
    SFTConfig,
    TripwireConfig,
    ValidationConfig,
)

GRADE_S, OPENAI_GRADE_S = 30.0, 120.0
"""Seconds that a grade may take by default, and at most under OpenAI's limits."""


def audit_setting(value: Any) -> Any:
    """`grader.audit: stop`, once the default, means warn: runs of that time still resume."""
    return "warn" if value == "stop" else value


class ModelConfig(Section):
    path: str = "builtin/tiny"
    """The base model: `builtin/tiny`, a directory, a Hugging Face hub id, a run, or an adapter directory."""
    revision: str | None = None
    """Hub revision (branch, tag or commit) of the base model; a run keeps the commit that it was when it began."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Data type of arithmetic and, with LoRA, of the frozen weights; trained weights stay float32. auto: bfloat16 on a
    GPU that has it, and, for models from 50 M parameters, on a CPU with AMX or AVX512-BF16; else float32. float16: GPUs
    only, with a gradient scaler."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off: such models are refused."""
    gradient_checkpointing: bool | Auto = "auto"
    """Recompute activations in the backward pass to save memory. auto: on a GPU, over 300 M parameters."""
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Variables of the chat template, for example `{enable_thinking: false}`; one that the template does not read is an
    error. On the command line: `--set model.chat_template_kwargs.enable_thinking=false`."""
    system_role: Literal["system", "user"] = "system"
    """Who says a system message. user: its text goes before the first user's message, for chat templates
    that know no system role."""
    attention: str | None = None
    """Attention implementation (`sdpa`, `eager`, `flash_attention_2`); empty takes transformers' choice."""


class LoraConfig(Section):
    enabled: bool | Auto = "auto"
    """Train a low-rank adapter instead of all weights. auto: on for models over 100 M parameters, and with
    `quantize`."""
    quantize: Literal["none", "nf4"] = "none"
    """nf4: the frozen base is held in 4 bits (QLoRA, through bitsandbytes), for models that fit no other way. The
    adapter learns beside those weights, and is exported for the base as it was published."""
    r: Count = 16
    """Rank of the adapter matrices."""
    alpha: Positive = 32.0
    """Scale: the adapter's output is multiplied by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the adapter's input. 0 keeps ratios exact."""
    target_modules: str | list[str] = "all-linear"
    """Layers that get an adapter: `all-linear`, or names."""


class EmbeddingsConfig(Section):
    base_url: str | None = None
    """OpenAI-compatible endpoint with `/embeddings`, for `text_similarity` with `cosine`; empty: cosine is refused."""
    model: str = "text-embedding-3-large"
    """Embedding model to ask the endpoint for; the default is the one that OpenAI's graders use."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; `none` for a server that needs no key."""


class DataConfig(Section):
    train: str | Names | None = None
    """Training rows: a file (JSONL, CSV, Parquet), a data set of the hub (`openai/gsm8k:train`), or a list of them."""
    validation: str | Names | None = None
    """Validation rows, named in the same way. The best checkpoint is chosen on them."""
    test: str | Names | None = None
    """Test rows, named in the same way, not used to choose the checkpoint; the final table comes from them."""
    format: Literal[
        "auto", "openai", "sharegpt", "verl", "trl", "alpaca", "rft", "gsm8k", "qa", "preference"
    ] = "auto"
    """Row format. auto: detected from the keys and printed."""
    prompt: Literal["auto", "text", "chat"] = "auto"
    """What a prompt that is a string becomes for a model with a chat template. text: it stays as it is. chat: a
    user's message. auto: text where it has the template's own tokens already, else a message."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Own column names, for example `{prompt: question_text}`."""
    overlap: Literal["warn", "drop", "error"] = "warn"
    """What to do about prompts that are in the training file and in the validation or test file."""
    system: str | None = None
    """A system message put before every prompt that has none."""


class JudgeConfig(Section):
    """Where models that grade are asked (`score_model`, `label_model`), and what that may cost."""

    base_url: str | None = None
    """OpenAI-compatible endpoint, for example `http://127.0.0.1:8000/v1`. Empty: OPENAI_BASE_URL, else OpenAI's own."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key; `none` for a server that needs no key."""
    model: str | list[str] | None = None
    """Model asked in place of the one a spec names: `NAME` for all, or `[gpt-4o=NAME, o3=OTHER]`. Empty: as named."""
    concurrency: Count = 8
    """Requests in flight at a time, over all judges of a grader."""
    retries: Annotated[int, Field(ge=0, le=100)] = 5
    """Further tries after a server error, a rate limit, a lost connection or a timeout; the waits double, up to 8 s."""
    timeout_s: Positive = 60.0
    """Seconds one try may take."""
    cache: str = "auto"
    """Folder of verdicts, which are not asked for twice; `none` keeps none. auto: `rft/judge` in your cache folder."""
    max_cost: Positive | None = None
    """US dollars that stop the job (exit code 3); requests in flight come on top. Needs `prices`. Empty: no limit."""
    max_tokens: Count | None = None
    """Tokens, read and written, that stop the job (exit code 3); requests in flight come on top. Empty: no limit."""
    prices: list[str] = Field(default_factory=list)
    """US dollars for a million tokens read and written: `[MODEL=0.15/0.60]`. None are built in."""


class RewardModelConfig(Section):
    label: str | None = None
    """Output of the reward model that is the reward, by name or number; needed where it has more than one."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Its weights in memory. auto: bfloat16 on a GPU that has it, else float32."""
    trust_remote_code: bool = False
    """Run Python code that a reward model from the hub brings along."""


class GraderConfig(Section):
    path: Annotated[str | list[str] | None, BeforeValidator(one_or_several)] = None
    """`scorer.py` or `scorer.py:function`, an OpenAI grader spec (`.json`, `.yaml`), or a reward model. Several scorers
    are added up: `[a.py, b.py:short=0.2]`, each with its weight, else 1."""
    guard: str | None = None
    """A second grader, never trained on: a scorer, a spec or a reward model that grades each validation and the test
    rows too. Where the reward rises and the guard falls, the job warns."""
    on_guard_drop: Literal["warn", "choose", "stop"] = "warn"
    """What follows where the guard falls below the base (its paired 95 % interval is below 0) while the reward rises.
    choose: that step can't become the best checkpoint, either. stop: and the job ends there."""
    folder: str | None = None
    """Folder that scorers run in and import from, beside their own. Empty: where the command is typed."""
    spec: dict[str, Any] | None = None
    """An OpenAI grader spec written here in place of a file: a mapping with `type`, `name` and more."""
    embeddings: EmbeddingsConfig = Field(default_factory=EmbeddingsConfig)
    timeout_s: Positive | Auto = "auto"
    """Seconds one grade may take; then it is ended and counts as failed. auto: 30; `limits: openai`: 120, the most."""
    workers: Count | Auto = "auto"
    """Worker processes. auto: CPU cores less one (in `rft grade` all of them), at least 1, at most 8."""
    max_failure_rate: Fraction = 0.1
    """Share of failed grades, over the last 512, above which the job stops."""
    audit: Annotated[Literal["warn", "none"], BeforeValidator(audit_setting)] = "warn"
    """The short audit before a job, which warns and stops nothing. none: no audit."""
    env: list[str] = Field(default_factory=list)
    """Environment variables with secret-looking names that the scorer may see."""
    memory_mb: Count | None = None
    """Memory limit of one worker in MB; empty sets none."""
    fresh: bool = False
    """Grade each completion in a fork of the loaded scorer, for scorers that change state; about 1 ms each."""
    limits: Literal["none", "openai"] = "none"
    """openai: what OpenAI's Python graders get: 256 kB, 120 s, 2 GB, its packages, no network, no files."""
    judge: JudgeConfig = Field(default_factory=JudgeConfig)
    reward_model: RewardModelConfig = Field(default_factory=RewardModelConfig)

    @property
    def shown(self) -> str | None:
        """What messages call the grader: its file as the user named it, or `grader.spec`; None: there is none."""
        if isinstance(self.path, list):
            return " + ".join(self.path)
        return self.path if self.path is not None or self.spec is None else "grader.spec"

    @property
    def file(self) -> str | None:
        """The one grader's path; None if there are several, or none."""
        return self.path if isinstance(self.path, str) else None

    def each(self) -> list[tuple[GraderConfig, float]]:
        """One configuration for each grader, with its weight. Raises UsageError if a weight is not a number."""
        if not isinstance(self.path, list):
            return [(self, 1.0)]
        parts = [weighted(text) for text in self.path]
        return [(self.model_copy(update={"path": part.path}), part.weight) for part in parts]

    def of_guard(self) -> GraderConfig | None:
        """The guard's own configuration: its file, under the grader's other settings; None where there is no guard."""
        return (
            None
            if self.guard is None
            else self.model_copy(update={"path": self.guard, "spec": None, "guard": None})
        )

    @property
    def grade_limit_s(self) -> float:
        """Seconds one grade may take: what `timeout_s` and `limits` come to."""
        if self.limits == "openai":
            return OPENAI_GRADE_S if self.timeout_s == "auto" else min(self.timeout_s, OPENAI_GRADE_S)
        return GRADE_S if self.timeout_s == "auto" else self.timeout_s


class RunConfig(Section):
    """One job."""

    algorithm: Literal["ppo", "grpo", "rloo", "sft"] = "ppo"
    """ppo: clipped steps, KL in the reward, and a critic where `ppo.critic` names one. grpo, rloo: TRL's.
    sft: supervised fine-tuning on the rows' references; no completion is sampled to train on."""
    model: ModelConfig = Field(default_factory=ModelConfig)
    lora: LoraConfig = Field(default_factory=LoraConfig)
    data: DataConfig = Field(default_factory=DataConfig)
    grader: GraderConfig = Field(default_factory=GraderConfig)
    rollout: RolloutConfig = Field(default_factory=RolloutConfig)
    pilot: PilotConfig = Field(default_factory=PilotConfig)
    validation: ValidationConfig = Field(default_factory=ValidationConfig)
    ppo: PPOConfig = Field(default_factory=PPOConfig)
    sft: SFTConfig = Field(default_factory=SFTConfig)
    optim: OptimConfig = Field(default_factory=OptimConfig)
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    distributed: DistributedConfig = Field(default_factory=DistributedConfig)
    tripwires: TripwireConfig = Field(default_factory=TripwireConfig)
    report_to: str | Names | None = None
    """Trackers that get the run's figures too: `tensorboard`, `wandb`, `mlflow`, `trackio`, or a list of them; each is
    an extra of rft's (docs/metrics.md). Empty: none."""
    seed: int = 0
    """Seed of everything random in training."""
    output_dir: str = "runs"
    """Folder in which a run makes its own directory."""
    name: str | None = None
    """Name of the run's directory. Empty: date, time and model."""
    num_processes: Count = 1
    """Processes to train with, on this machine. More than 1 starts them side by side."""

    @property
    def trackers(self) -> list[str]:
        """The names in `report_to`, each once."""
        given = [self.report_to] if isinstance(self.report_to, str) else self.report_to or []
        return [name for name in dict.fromkeys(given) if name != "none"]

    @property
    def teaches(self) -> bool:
        """Whether the job learns from references, and not from graded completions of its own."""
        return self.algorithm == "sft"

    @property
    def completions_a_prompt(self) -> int:
        """Completions that a training prompt gets in the pilot: a group where they are compared, else one."""
        return 1 if self.teaches else self.rollout.group_size
