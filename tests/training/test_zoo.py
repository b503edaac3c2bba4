"""Many architectures, one step each: what is sampled is what is scored, and what is exported is what was trained."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from rft_cli.config.load import load_own
from rft_cli.runs.exports import plan_export
from rft_cli.training.export import exporter as exporting
from rft_cli.training.export import parts
from tests.training import zoo

FULL = os.environ.get("RFT_ZOO") == "full"
KINDS = sorted(zoo.ZOO if FULL else zoo.SHORT)
KINDS = [kind for kind in KINDS if kind not in zoo.BROKEN]
DOCS = Path(__file__).parents[2] / "docs" / "models.md"
pytestmark = pytest.mark.untraced


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each architecture's checkpoint, written once."""
    folder = tmp_path_factory.mktemp("zoo")

    def base_of(kind: str) -> Path:
        return folder / kind if (folder / kind).exists() else zoo.write_model(folder / kind, kind)

    return base_of


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_and_its_export(
    kind: str, lora: bool, bases: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MOST_TOKENS", 4)
    step = zoo.one_step(bases(kind), tmp_path, lora)
    assert abs(step.ratio - 1) <= 1e-3
    assert abs(step.kl_per_token) <= 1e-4
    assert step.apart <= 1e-3
    plan = plan_export(step.run, checkpoint="best", format="merged", dtype=None, to=None, force=False)
    exporting.export(plan, load_own(step.run.path).config, lambda _: None)
    exported = AutoModelForCausalLM.from_pretrained(plan.target).eval()
    assert type(exported) is type(AutoModelForCausalLM.from_pretrained(bases(kind)))
    ids = AutoTokenizer.from_pretrained(plan.target)(zoo.PROMPTS[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(bases(kind)).eval()(ids).logits
        tuned = step.trainer.model.eval()(input_ids=ids).logits
        found = exported(ids).logits
    torch.testing.assert_close(found, tuned, atol=2e-4, rtol=1e-3)
    assert (found - base).abs().max() > 2e-3, "the step moved it"


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "gpt_oss"])
def test_bf16_weights_under_lora(kind: str, bases: Any, tmp_path: Path) -> None:
    step = zoo.one_step(bases(kind), tmp_path, lora=True, dtype=torch.bfloat16)
    assert abs(step.ratio - 1) <= 2e-2
    assert abs(step.kl_per_token) <= 2e-2


def test_there_are_many_and_the_documentation_lists_them() -> None:
    assert len(zoo.ZOO) - len(zoo.BROKEN) >= 45
    assert set(zoo.SHORT) <= set(zoo.ZOO)
    rows = [
        line.split("|") for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")
    ]
    found = {row[1].strip(" `"): row[2].strip() for row in rows}
    classes = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    assert found == {kind: classes[kind] for kind in zoo.ZOO}, (
        "run: python -m tests.training.zoo docs/models.md"
    )


@pytest.mark.skipif(not FULL, reason="imports every architecture; `make zoo` runs it")
def test_the_documentation_is_up_to_date() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert zoo.with_table(text) == text, "run: python -m tests.training.zoo docs/models.md"
