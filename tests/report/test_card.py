"""The model card of an export, from run directories written here by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rft_cli.config import RunConfig
from rft_cli.report.card import Made, model_card
from rft_cli.runs import Run
from rft_cli.types import Grade, Sample

VERSIONS = {"python": "3.11.7", "rft": "0.1.0", "torch": "2.13.0"}


def samples(reward: float, **components: float) -> list[Sample]:
    return [
        Sample(row, f"f:{row}", "prompt", "text", 1, False, Grade("graded", reward, components))
        for row in range(4)
    ]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Validated at steps 6 and 12, of which 12 is the best and the one that was tested; saved at 9 as well."""
    run = Run.create(tmp_path, "job", config_yaml="{}\n", info={"model": "x", "versions": VERSIONS})
    for step in (6, 9, 12):
        partial = run.begin_checkpoint(step)
        (partial / "w").write_bytes(b"w")
        run.commit_checkpoint(step, partial)
    run.set_best(12)
    run.write_samples("step-000000", samples(0.25, **{"a|b": 0.0}))
    run.write_samples("step-000006", samples(0.5, **{"a|b": 0.0}))
    run.write_samples("step-000012", samples(0.75, **{"a|b": 1.0}))
    run.write_samples("test-before", samples(0.125))
    run.write_samples("test-after", samples(0.625))
    return run


def card(run: Run, step: int, base: str = "", kind: str = "merged", chat: bool = True, **model: Any) -> str:
    config = RunConfig.model_validate(
        {"model": {"path": "org/base-0.5b", **model}, "grader": {"path": "/home/me/scorer.py:score"}}
    )
    return model_card(run, config, Made(step, kind, "bfloat16", base, (2, 5), 0, chat))


def table(text: str) -> list[str]:
    return [line for line in text.split("## Reward")[1].splitlines() if line.startswith("| 4 ")]


def test_the_best_checkpoint_has_validation_and_test_rows(run: Run) -> None:
    text = card(run, 12)
    assert table(text) == [
        "| 4 validation | **reward** | 0.250 [0.250, 0.250] | 0.750 [0.750, 0.750] | +0.500 [+0.500, +0.500] |",
        "| 4 validation | a\\|b | 0.000 [0.000, 0.000] | 1.000 [1.000, 1.000] | +1.000 [+1.000, +1.000] |",
        "| 4 test | **reward** | 0.125 [0.125, 0.125] | 0.625 [0.625, 0.625] | +0.500 [+0.500, +0.500] |",
    ]
    assert "chosen on the validation rows" in text
    front = yaml.safe_load(text.split("---\n")[1])
    results = front.pop("model-index")[0]["results"]
    assert [result["dataset"]["name"] for result in results] == ["validation rows", "test rows"]
    assert [result["metrics"][0]["value"] for result in results] == [0.75, 0.625]
    assert front == {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["rft", "reinforcement-fine-tuning", "ppo"],
        "base_model": "org/base-0.5b",
    }
    assert "against the grader `scorer.py:score`." in text
    assert "/home/me" not in text
    assert "| made with | python 3.11.7, rft 0.1.0, torch 2.13.0 |" in text
    assert "| format | merged, bfloat16 |" in text


def test_another_checkpoint_has_no_test_rows(run: Run) -> None:
    assert table(card(run, 6)) == [
        "| 4 validation | **reward** | 0.250 [0.250, 0.250] | 0.500 [0.500, 0.500] | +0.250 [+0.250, +0.250] |",
        "| 4 validation | a\\|b | 0.000 [0.000, 0.000] | 0.000 [0.000, 0.000] | +0.000 [+0.000, +0.000] |",
    ]
    assert "its reward was not measured" in card(run, 9)
    run.update(versions=None)
    assert "made with" not in card(run, 6)


def test_code_for_a_base_from_the_hub(run: Run) -> None:
    text = card(run, 12, "org/base-0.5b", "adapter", revision="v2", trust_remote_code=True)
    assert (
        "base = AutoModelForCausalLM.from_pretrained('org/base-0.5b', revision='v2', trust_remote_code=True)\n"
        'model = PeftModel.from_pretrained(base, ".")\n'
        'tokenizer = AutoTokenizer.from_pretrained(".", trust_remote_code=True)\n'
    ) in text
    assert "| base model | `org/base-0.5b` (revision `v2`) |" in text
    assert "on another machine" not in text


def test_code_for_a_base_in_a_directory(run: Run) -> None:
    text = card(run, 12, "/models/own", "adapter", path="/models/own")
    assert "base = AutoModelForCausalLM.from_pretrained('/models/own')\n" in text
    assert "on another machine, put its path there instead" in text
    assert "base_model:" not in text


def test_a_checkpoint_no_better_than_one_answer_says_so(run: Run) -> None:
    assert "No better than one answer" not in card(run, 12)
    run.write_samples("constant-validation", samples(0.75))
    run.write_samples("constant-test", samples(0.5))
    text = card(run, 12)
    assert (
        "**No better than one answer for everything:** `text` for every row earns 0.750 [0.750, 0.750] on the "
        "validation rows." in text
    )
    assert "on the test rows" not in text


def test_code_that_asks_a_question(run: Run) -> None:
    text = card(run, 12)
    assert (
        'messages = [{"role": "user", "content": "Your question"}]\n'
        "prompt = tokenizer.apply_chat_template(\n"
        '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"\n'
        ")\n"
        "output = model.generate(\n"
        "    **prompt, max_new_tokens=512, do_sample=True, temperature=0.6, top_p=1.0, top_k=0,\n"
        "    repetition_penalty=1.0, eos_token_id=[2, 5], pad_token_id=0,\n"
        ")\n"
    ) in text
    run.write_pilot({"max_completion_tokens": 96})
    text = card(run, 12, chat=False)
    assert 'prompt = tokenizer("Your question\\n", return_tensors="pt")\n' in text
    assert "max_new_tokens=96," in text
