"""The first rollout batch is compared with the model's own logits: in the real trainer, on models that fit and not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rft_cli.errors import UsageError
from rft_cli.training.rollouts import base_trainer, logprob_check, rollout_trainer
from tests.training.test_ppo_step import first_line, trainer_for


def test_a_sound_model_agrees(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path)
    line = first_line(trainer)
    assert line["ratio"] == pytest.approx(1.0, abs=1e-4)
    assert trainer._agreement.sampled < 1e-4
    assert trainer._agreement.scored < 1e-4
    assert trainer._share


def test_what_sharing_spoils_is_scored_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that the trial took for exact and is not."""
    monkeypatch.setattr(base_trainer, "splitting_is_exact", lambda *_: True)
    trainer = trainer_for(tmp_path)
    norm = trainer.model.model.norm

    def wrong_where_a_cache_goes_on(_module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        shared = (
            trainer.__dict__.get("_share", False)
            and args[0].size(0) == trainer.args.per_device_train_batch_size
        )
        return output + 0.5 if shared else output

    norm.register_forward_hook(wrong_where_a_cache_goes_on)
    monkeypatch.setattr(logprob_check, "ROWS", trainer.args.per_device_train_batch_size)
    trainer.train()
    assert trainer._share is False
    assert trainer._agreement.scored < 1e-4


def test_a_model_that_scores_otherwise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_for(tmp_path)
    plain = rollout_trainer.score

    def off(*args: Any, **kwargs: Any) -> Any:
        scores = plain(*args, **kwargs)
        return type(scores)(scores.logps - 0.3, scores.entropy, scores.states)

    monkeypatch.setattr(rollout_trainer, "score", off)
    with pytest.raises(UsageError, match=r"Qwen3ForCausalLM: .* by 0\.3 where they are scored"):
        trainer.train()


def test_learned_positions_count_from_a_rows_first_token() -> None:
    """GPT-2 under left padding: each row as if it stood alone."""
    from contextlib import nullcontext

    from trl.trainer.utils import add_fused_lm_head

    from rft_cli.training.rollouts.backbone import backbone_of
    from rft_cli.training.rollouts.scoring import score

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2, n_positions=64)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(5)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    ids = torch.tensor([[0, 0, 0, 5, 6, 7, 8], [4, 5, 6, 7, 8, 9, 10]])
    attention = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [1] * 7])
    for share in (False, True):
        found = score(model, backbone_of(model), ids, attention, 2, 2, nullcontext, share).logps
        alone = model(input_ids=ids[:1, 3:]).logits[0, -3:-1].log_softmax(-1)
        torch.testing.assert_close(found[0], alone.gather(1, ids[0, -2:, None])[:, 0], rtol=1e-4, atol=1e-5)
