"""The model card of an export: what it was made from, what it gained, how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rft_cli.config import RunConfig
from rft_cli.config.paths import is_path
from rft_cli.report.collapse import best_constant
from rft_cli.report.estimates import compare, component_names
from rft_cli.report.eval_results import hash_rows, model_index
from rft_cli.report.gaming.verdict import Gaming
from rft_cli.report.markdown import code, prose
from rft_cli.report.pairs import Pair, read_pairs
from rft_cli.report.pilot import WITHOUT_PILOT
from rft_cli.runs import Run
from rft_cli.types import Comparison, Estimate

BUILTIN_PATH = 'str(files("rft_cli") / "{}")'


@dataclass(frozen=True, slots=True)
class Made:
    """What was exported: `precision` is that of the files, `base` what a PEFT user loads under an adapter.

    `stop` ends a completion, `pad` fills up; `chat`: whether the tokenizer has a chat template; `file`: that of a GGUF.
    """

    step: int
    format: str
    precision: str
    base: str
    stop: Sequence[int]
    pad: int
    chat: bool
    file: str = ""


def model_card(run: Run, config: RunConfig, made: Made) -> str:
    """README.md of an export, as Markdown with the front matter that the hub reads."""
    front: dict[str, Any] = {
        "library_name": {"adapter": "peft", "gguf": "gguf"}.get(made.format, "transformers"),
        "pipeline_tag": "text-generation",
        "tags": [
            "rft",
            "supervised-fine-tuning" if config.teaches else "reinforcement-fine-tuning",
            config.algorithm,
        ],
    }
    base = config.model.path
    if not base.startswith("builtin/") and not is_path("model.path", base):
        front["base_model"] = base
    pairs = _measured(run, made.step)
    index = model_index(run.name, pairs, run.info.get("hashes") or {})
    if index:
        front["model-index"] = index
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---",
        f"# {prose(run.name)}, step {made.step}",
        _origin(run, config, made),
        *_gain(config, pairs, _gamed(run, made.step)),
        "## Use",
        _use(run, config, made),
    ]
    return "\n\n".join(parts) + "\n"


def _origin(run: Run, config: RunConfig, made: Made) -> str:
    versions: Mapping[str, str] = run.info.get("versions") or {}
    what = "A LoRA adapter for" if made.format == "adapter" else "A fine-tuned copy of"
    paths = config.grader.path if isinstance(config.grader.path, list) else [config.grader.shown or "unknown"]
    scorer = code(" + ".join(Path(path).name for path in paths))
    revision = f" (revision {code(config.model.revision)})" if config.model.revision else ""
    base = code(_public(config.model.path))
    how = (
        f"taught the references of its rows, and measured with the grader {scorer}"
        if config.teaches
        else f"trained with reinforcement against the grader {scorer}"
    )
    rows = [
        f"{what} {base}{revision}, {how}.\n",
        "| | |",
        "|---|---|",
        f"| base model | {base}{revision} |",
        f"| algorithm | {config.algorithm.upper()}, seed {config.seed} |",
        f"| checkpoint | step {made.step} of the run {code(run.name)} |",
        f"| format | {made.format}, {made.precision} |",
    ]
    rows += hash_rows(run.info.get("hashes") or {})
    if versions:
        listed = ", ".join(f"{name} {version}" for name, version in versions.items())
        rows.append(f"| made with | {listed} |")
    return "\n".join(rows)


def _public(model: str) -> str:
    """The model's name; of a directory its last part, since where it lies is nobody else's business."""
    return Path(model).name if is_path("model.path", model) and not model.startswith("builtin/") else model


def _gain(config: RunConfig, pairs: Sequence[Pair], gamed: Sequence[str]) -> list[str]:
    if not pairs:
        return [
            "## Reward",
            "This checkpoint was saved between two validations: its reward was not measured.",
        ]
    settings = config.validation
    constants: list[str] = []
    lines = ["| rows | quantity | before | after | difference |", "|---|---|---|---|---|"]
    for pair in pairs:
        names = [None, *component_names(pair.after)]
        lines += [_row(pair, name) for name in names]
        constants += _constant(pair)
    said = (
        f"Means over rows with 95 % intervals (bootstrap); the difference is paired by row. "
        f"Completions a row: {settings.samples_per_prompt}; temperature {settings.temperature:g}, "
        f"top_p {settings.top_p:g}, seed {settings.seed}."
    )
    said += " The checkpoint was chosen on the validation rows, so the gain there is a little flattered."
    return ["## Reward", "\n".join(lines), said, *constants, *gamed]


def _gamed(run: Run, step: int) -> list[str]:
    """The verdict of the run, where its gain looks gamed and this is its best checkpoint."""
    found = (run.info.get("result") or {}).get("gaming")
    if found is None or run.info.get("best_step") != step:
        return []
    sentence = Gaming.from_json(found).sentence
    return [f"**{prose(sentence)}**"] if sentence else []


def _constant(pair: Pair) -> list[str]:
    """What one completion for every row would earn, where the checkpoint is no better."""
    found = best_constant(pair.constants, pair.after)
    if found is None or not found.as_good:
        return []
    return [
        f"**No better than one answer for everything:** {code(found.completion[:200])} for every row earns "
        f"{_interval(found.reward)} on the {pair.split} rows."
    ]


def _measured(run: Run, step: int) -> list[Pair]:
    """The run's samples of the base and of this step; test rows were sampled from the best one alone."""
    try:
        pairs = read_pairs(run, step)
    except FileNotFoundError:
        return []
    best = run.info.get("best_step") == step and run.has_samples("test-after")
    return [pair for pair in pairs if best or pair.split == "validation"]


def _row(pair: Pair, component: str | None) -> str:
    found: Comparison = (
        compare(pair.before, pair.after) if component is None else compare(pair.before, pair.after, component)
    )
    cells: Sequence[str] = [
        f"{found.after.n} {pair.split}",
        "**reward**" if component is None else prose(component),
        _interval(found.before),
        _interval(found.after),
        _interval(found.difference, "+"),
    ]
    return f"| {' | '.join(cells)} |"


def _interval(estimate: Estimate, sign: str = "") -> str:
    low, high = estimate.ci95
    return f"{estimate.mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _use_gguf(run: Run, config: RunConfig, made: Made) -> str:
    """How llama.cpp and Ollama take the file."""
    chosen = config.validation
    request = {
        "messages": [{"role": "user", "content": "Your question"}],
        "max_tokens": completion_limit(run, config),
        "temperature": chosen.temperature,
        "top_p": chosen.top_p,
    }
    ask = f"curl http://127.0.0.1:8080/v1/chat/completions -d '{json.dumps(request)}'"
    if not made.chat:
        plain = {**request, "prompt": "Your question\n", "messages": None}
        plain = {key: value for key, value in plain.items() if value is not None}
        ask = f"curl http://127.0.0.1:8080/v1/completions -d '{json.dumps(plain)}'"
    return (
        f"llama.cpp, in this directory:\n\n```sh\nllama-server -m {made.file} --jinja --port 8080\n{ask}\n```\n\n"
        "Ollama:\n\n```sh\nollama create my-model -f Modelfile\nollama run my-model\n```\n\n"
        "Sampling is as in the job's validations: the file and the Modelfile have the temperature and top_p. "
        "A system message of the training rows goes before the question."
    )


def _use(run: Run, config: RunConfig, made: Made) -> str:
    if made.format == "gguf":
        return _use_gguf(run, config, made)
    trust = ", trust_remote_code=True" if config.model.trust_remote_code else ""
    merged = made.format == "merged"
    imports, load, note = [], [], ""
    if merged:
        imports.append("from transformers import AutoModelForCausalLM, AutoTokenizer")
        load.append(f'model = AutoModelForCausalLM.from_pretrained("."{trust})')
    else:
        imports += [
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
        ]
        base, note = repr(made.base), ""
        if config.model.path.startswith("builtin/"):
            imports.insert(0, "from importlib.resources import files\n")
            base = BUILTIN_PATH.format(config.model.path)
            note = (
                f"\n\n{code(config.model.path)} is not on the hub: it comes with the package `rft-cli`. "
                "`adapter_config.json` names its directory on the machine that exported this adapter."
            )
        elif is_path("model.path", made.base):
            note = "\n\nThe base model was a directory: on another machine, put its path there instead."
        revision = f", revision={config.model.revision!r}" if config.model.revision else ""
        load += [
            f"base = AutoModelForCausalLM.from_pretrained({base}{revision}{trust})",
            'model = PeftModel.from_pretrained(base, ".")',
        ]
    load.append(f'tokenizer = AutoTokenizer.from_pretrained("."{trust})')
    program = "\n".join([*imports, "", *load, "", *_answer(run, config, made)])
    how = "Sampling is as in the job's validations. A system message of the training rows goes before the question."
    if not made.chat:
        how = "Sampling is as in the job's validations. The prompt is plain text: the tokenizer has no chat template."
    return (
        f"In this directory (or with its path in place of `.`):\n\n```python\n{program}\n```\n\n{how}{note}"
    )


def _answer(run: Run, config: RunConfig, made: Made) -> list[str]:
    """Lines of code that ask the loaded model a question, sampled as the reward was measured."""
    if made.chat:
        options = "".join(f", {name}={value!r}" for name, value in config.model.chat_template_kwargs.items())
        ask = [
            'messages = [{"role": "user", "content": "Your question"}]',
            "prompt = tokenizer.apply_chat_template(",
            f'    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"{options}',
            ")",
        ]
    else:
        ask = ['prompt = tokenizer("Your question\\n", return_tensors="pt")']
    settings, stop = config.validation, list(made.stop)
    how = "do_sample=False"
    if settings.temperature > 0:
        how = f"do_sample=True, temperature={settings.temperature!r}, top_p={settings.top_p!r}, top_k=0"
    return [
        *ask,
        "output = model.generate(",
        f"    **prompt, max_new_tokens={completion_limit(run, config)}, {how},",
        f"    repetition_penalty=1.0, eos_token_id={stop!r}, pad_token_id={made.pad},",
        ")",
        'answer = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)',
        "print(answer)",
    ]


def completion_limit(run: Run, config: RunConfig) -> int:
    """Tokens that a completion of the run could have."""
    setting = config.rollout.max_completion_tokens
    if not isinstance(setting, str):
        return setting
    return int((run.read_pilot() or {}).get("max_completion_tokens", WITHOUT_PILOT))
