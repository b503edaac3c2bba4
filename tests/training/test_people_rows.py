"""Rows as people have them, through the real command line: what the model reads, what graders get, what is said."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from rft_cli.config import RunConfig
from rft_cli.errors import UsageErrors
from rft_cli.job import load_job
from rft_cli.training.main import check
from rft_cli.training.rollouts.prompts import PromptEncoder
from tests.command import ROOT, Ended
from tests.faults.jobs import SMALL, rft_here

CASES = ROOT / "tests" / "cases"
TINY = ROOT / "rft_cli" / "builtin" / "tiny"
PLAIN = json.loads((TINY / "tokenizer_config.json").read_text())["chat_template"]
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + PLAIN
)
WITH_TOOLS = (
    "{% if tools %}<|system|>{% for t in tools %}{{ t.function.name }} {% endfor %}<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}[{{ c.function.name }} {{ c.function.arguments.city }}]{% endfor %}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
THINKS = PLAIN.replace(
    "<|assistant|>' }}{% endif %}",
    "<|assistant|>' }}{% if thinking is defined and not thinking %}<think>\n\n</think>\n\n{% else %}<think>\n"
    "{% endif %}{% endif %}",
)
SCORER = """
from pathlib import Path
SEEN = Path(__file__).with_name("seen.jsonl")
def score(completion, example):
    import json
    with SEEN.open("a") as file:
        file.write(json.dumps(completion) + "\\n")
    return float(len(completion) % 5)
"""


def model_with(folder: Path, template: str | None) -> Path:
    """builtin/tiny with another chat template, or none."""
    model = folder / "model"
    shutil.copytree(TINY, model)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config["chat_template"] = template
    if template is None:
        del config["chat_template"]
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    return model


def write(folder: Path, *rows: dict[str, Any], name: str = "x.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def checked(
    file: Path, base: Path | str = "builtin/tiny", **settings: Any
) -> tuple[list[str], list[str], list[str]]:
    """The first prompts as the model reads them, and the notes and warnings of the check before a job."""
    data = {"train": str(file), "validation": str(file), **settings.pop("data", {})}
    tree = {"data": data, "model": {"path": str(base), **settings.pop("model", {})}}
    job = load_job(RunConfig.model_validate(tree))
    found = check(job)
    encoder = PromptEncoder.of(found.tokenizer, job.config)
    texts = [found.tokenizer.decode(ids) for ids in encoder.encode(job.train.examples[:4])]
    notes, warnings = (
        [note.text for note in found.notes if note.level == level] for level in ("info", "warning")
    )
    return texts, notes, warnings


def create(folder: Path, rows: Path, *args: str | Path) -> Ended:
    """A job of one step on these rows; what it says is on standard error."""
    (folder / "scorer.py").write_text(SCORER)
    names = ("-t", rows, "-v", rows, "--reward-model", "scorer.py", "--name", "a", "--n-epochs", "1")
    return rft_here(folder, "create", *names, *SMALL, *args)


def graded(folder: Path) -> list[str]:
    return [json.loads(line) for line in (folder / "seen.jsonl").read_text().splitlines()]


def samples(folder: Path) -> list[dict[str, Any]]:
    """Every completion that was sampled and that a run keeps in a folder."""
    files = folder.glob("step-*.jsonl")
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_a_prompt_that_leaves_no_room_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, {"prompt": "short"}, {"prompt": "long " * 5000})
    with pytest.raises(UsageErrors) as raised:
        checked(file)
    # The file is -t and -v.
    one, other = (problem.message for problem in raised.value.problems)
    assert re.fullmatch(
        rf"{re.escape(str(file))}:2: the prompt has \d+ tokens; the model's context is \d+", one
    )
    assert other == one


def test_alpaca_rows_train(tmp_path: Path) -> None:
    texts, _, _ = checked(CASES / "alpaca.jsonl")
    assert texts[0] == "<|user|>Translate the sentence to French.\n\nGood morning, Anna.<|end|><|assistant|>"
    assert texts[2] == "<|user|>Name a colour.<|end|><|assistant|>"
    assert create(tmp_path, CASES / "alpaca.jsonl").code == 0


def test_verl_rows_train(tmp_path: Path) -> None:
    assert create(tmp_path, CASES / "verl_math.jsonl").code == 0


def test_a_rendered_prompt_stays_as_it_stands(tmp_path: Path) -> None:
    own = "<|system|>Be brief.<|end|><|user|>Weather in Oslo?<|end|><|assistant|>"
    texts, notes, warnings = checked(CASES / "rendered_prompt.jsonl")
    assert texts[0] == own
    assert notes == [
        f"{CASES}/rendered_prompt.jsonl:1 (and 3 more rows): the prompt has the chat template's own tokens: it stays "
        "as it is (data.prompt=chat wraps it)"
    ]
    assert warnings == []
    texts, notes, warnings = checked(CASES / "rendered_prompt.jsonl", data={"prompt": "chat"})
    assert texts[0] == f"<|user|>{own}<|end|><|assistant|>"
    (warning,) = warnings
    assert "a message holds '<|assistant|>', which the chat template writes itself" in warning
    texts, notes, _ = checked(write(tmp_path, {"prompt": "The sky is"}), data={"prompt": "text"})
    assert texts == ["The sky is"]
    assert notes == [f"{tmp_path}/x.jsonl:1 (and 1 more row): the prompt is text and stays as it is"]
    assert checked(write(tmp_path, {"prompt": "The sky is"}))[0] == ["<|user|>The sky is<|end|><|assistant|>"]


def test_data_system_is_not_put_before_a_rendered_prompt() -> None:
    texts, notes, _ = checked(CASES / "rendered_prompt.jsonl", data={"system": "No."})
    assert "No." not in texts[0]
    assert any("data.system is not put before a prompt that stays as it is" in note for note in notes)


def test_no_second_beginning_of_a_text(tmp_path: Path) -> None:
    """A rendered prompt has the token with which texts begin."""
    model = model_with(tmp_path, "{{ bos_token }}" + PLAIN)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config["bos_token"] = "<|system|>"
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    text = "<|system|><|user|>a<|end|><|assistant|>"
    assert checked(write(tmp_path, {"prompt": text}), model)[0] == [text]


def test_a_users_text_with_the_templates_tokens_is_no_rendered_prompt(tmp_path: Path) -> None:
    file = write(tmp_path, {"prompt": [{"role": "user", "content": "What is <|end|>?"}], "answer": "a token"})
    texts, notes, warnings = checked(file)
    assert texts == ["<|user|>What is <|end|>?<|end|><|assistant|>"]
    assert notes == []
    (warning,) = warnings
    assert warning.startswith(f"{file}:1 (and 1 more row): a message holds '<|end|>'")


def test_the_beginning_of_an_answer_is_gone_on_from_and_graded(tmp_path: Path) -> None:
    begun = "Let me solve this step by step.\n<think>"
    texts, _, _ = checked(CASES / "assistant_prefix.jsonl")
    assert texts[0] == f"<|user|>What is 1 + 2?<|end|><|assistant|>{begun}"
    done = create(tmp_path, CASES / "assistant_prefix.jsonl")
    assert done.code == 0, done.err
    assert "'prompt' ends with an assistant turn: it is the beginning of the completion" in done.err
    rollouts = samples(tmp_path / "runs/a/rollouts")
    sampled = [row["completion"] for row in rollouts]
    assert sampled
    assert all(text.startswith(begun) for text in sampled)
    assert set(sampled) <= set(graded(tmp_path))
    validated = samples(tmp_path / "runs/a/validation")
    assert all(row["completion"].startswith(begun) for row in validated)


def test_in_messages_a_last_assistant_turn_is_the_reference_or_says_that_it_is_a_beginning(
    tmp_path: Path,
) -> None:
    turns = [{"role": "user", "content": "1+2?"}, {"role": "assistant", "content": "It is"}]
    assert checked(write(tmp_path, {"messages": turns}))[0] == ["<|user|>1+2?<|end|><|assistant|>"]
    turns[1]["prefix"] = True  # type: ignore[assignment]
    assert checked(write(tmp_path, {"messages": turns}))[0] == ["<|user|>1+2?<|end|><|assistant|>It is"]


def test_what_the_template_opens_of_an_answer_is_graded_with_it(tmp_path: Path) -> None:
    model = model_with(tmp_path, THINKS)
    texts, notes, _ = checked(CASES / "alpaca.jsonl", model)
    assert texts[2] == "<|user|>Name a colour.<|end|><|assistant|><think>\n"
    assert notes == [
        "the chat template begins every answer with '<think>\\n': graders get it with the completion"
    ]
    done = create(tmp_path, CASES / "alpaca.jsonl", "--model", model)
    assert done.code == 0, done.err
    own = [text for text in graded(tmp_path) if text.startswith("<think>\n")]
    assert len(own) > 8  # the others are the texts that the preflight tries
    # A block that is closed at once is no beginning.
    off = {"chat_template_kwargs": {"thinking": False}}
    texts, notes, _ = checked(CASES / "alpaca.jsonl", model, model=off)
    assert texts[2] == "<|user|>Name a colour.<|end|><|assistant|><think>\n\n</think>\n\n"
    assert notes == []


@pytest.mark.parametrize("shape", ["list", "text", "flat", "bare"])
def test_tools_reach_the_template(tmp_path: Path, shape: str) -> None:
    function = {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}
    tools: Any = {
        "list": [{"type": "function", "function": function}],
        "text": json.dumps([{"type": "function", "function": function}]),
        "flat": [{"type": "function", **function}],
        "bare": [function],
    }[shape]
    model = model_with(tmp_path, WITH_TOOLS)
    file = write(tmp_path, {"prompt": [{"role": "user", "content": "Rain?"}], "tools": tools})
    texts, _, warnings = checked(file, model)
    assert texts == ["<|system|>get_weather <|end|><|user|>Rain?<|end|><|assistant|>"]
    assert warnings == []


def test_a_template_that_ignores_tools_is_named() -> None:
    _, _, warnings = checked(CASES / "tools.jsonl")
    assert warnings == [
        f"{CASES}/tools.jsonl:1 (and 7 more rows): the chat template ignores the definitions of tools"
    ]


def test_calls_of_tools_are_rendered(tmp_path: Path) -> None:
    model = model_with(tmp_path, WITH_TOOLS)
    call = {"id": "1", "type": "function", "function": {"name": "rain", "arguments": '{"city": "Oslo"}'}}
    turns = [
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "yes"},
    ]
    texts, _, _ = checked(write(tmp_path, {"messages": turns}), model)
    assert texts == ["<|user|>Rain?<|end|><|assistant|>[rain Oslo]<|end|><|tool|>yes<|end|><|assistant|>"]


def test_a_template_without_system_role_is_refused_before_anything_loads_or_gets_it_in_the_users_turn(
    tmp_path: Path,
) -> None:
    model = model_with(tmp_path, NO_SYSTEM)
    rows = CASES / "system_role.jsonl"
    done = create(tmp_path, rows, "--model", model)
    assert done.code == 2
    assert done.problems == [
        f"{rows}:1 (and 5 more rows): the model's chat template refuses a prompt of system, user: System role not "
        "supported"
    ]
    assert "--set model.system_role=user" in done.err
    assert not (tmp_path / "runs").exists()
    done = create(tmp_path, rows, "--model", model, "--set", "model.system_role=user")
    assert done.code == 0, done.err
    assert "the system message is put into the user's first message" in done.err
    texts, _, _ = checked(rows, model, model={"system_role": "user"})
    assert texts[0] == "<|user|>Be brief.\n\nWhat is 1 + 2?<|end|><|assistant|>"


@pytest.mark.parametrize(
    ("given", "message", "fix"),
    [
        (
            "thinkng=false",
            "model.chat_template_kwargs.thinkng: the chat template of",
            "did you mean 'thinking'?",
        ),
        ("zzz=1", "model.chat_template_kwargs.zzz: the chat template of", "it reads thinking"),
        ("messages=1", "model.chat_template_kwargs.messages: rft gives it itself", "leave it out"),
    ],
)
def test_variables_that_the_template_does_not_read(
    tmp_path: Path, given: str, message: str, fix: str
) -> None:
    model = model_with(tmp_path, THINKS)
    setting = f"model.chat_template_kwargs.{given}"
    done = create(tmp_path, CASES / "alpaca.jsonl", "--model", model, "--set", setting)
    assert done.code == 2
    (problem,) = done.problems
    assert problem.startswith(message)
    assert f"fix: {fix}" in done.err
    assert not (tmp_path / "runs").exists()


def test_variables_of_the_template_on_the_command_line_and_in_the_run(tmp_path: Path) -> None:
    model = model_with(tmp_path, THINKS)
    done = create(
        tmp_path,
        CASES / "alpaca.jsonl",
        "--model",
        model,
        "--set",
        "model.chat_template_kwargs.thinking=false",
    )
    assert done.code == 0, done.err
    own = json.loads((tmp_path / "runs/a/run.json").read_text())
    assert own["settings"]["model.chat_template_kwargs"] == {"thinking": False}
    assert not any(text.startswith("<think>") for text in graded(tmp_path))


def test_a_base_model_takes_no_template_settings(tmp_path: Path) -> None:
    model = model_with(tmp_path, None)
    for setting in ("model.chat_template_kwargs.thinking=false", "data.prompt=chat"):
        done = create(tmp_path, CASES / "alpaca.jsonl", "--model", model, "--set", setting)
        assert done.code == 2
        (problem,) = done.problems
        assert problem.endswith("has no chat template")
