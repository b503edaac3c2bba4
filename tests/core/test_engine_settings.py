"""Settings of `rollout.engine` that contradict each other, and addresses that are none."""

from __future__ import annotations

from typing import Any

import pytest

from rft_cli.config import RunConfig
from rft_cli.config.checks import check_combinations
from rft_cli.config.engines import endpoints


def config(**rollout: Any) -> RunConfig:
    return RunConfig.model_validate({"rollout": rollout})


@pytest.mark.parametrize(
    "given",
    [
        "http://a:8000/v1, http://b:8000/,http://a:8000",
        ["http://a:8000", "http://b:8000/v1/"],
    ],
)
def test_endpoints_are_addresses_without_their_ends(given: Any) -> None:
    assert endpoints(config(engine="vllm", endpoint=given).rollout) == ["http://a:8000", "http://b:8000"]


@pytest.mark.parametrize(
    ("rollout", "key", "words"),
    [
        ({"endpoint": "http://a:1"}, "rollout.endpoint", "the engine transformers has no endpoint"),
        ({"engine": "vllm", "endpoint": "http://a:1,b:2"}, "rollout.endpoint", "address 2 must begin with http://"),
        ({"engine": "vllm", "endpoint": "http://u:secret@a"}, "rollout.endpoint", "must hold no user name"),
        ({"engine": "vllm", "endpoint": "http://a", "vllm": {"python": "/p"}}, "rollout.endpoint", "vllm.python"),
        ({"engine": "vllm", "vllm": {"python": "/p", "command": ["x"]}}, "rollout.vllm.python", "the whole program"),
        ({"engine": "vllm", "vllm": {"api_key_env": "sk-123"}}, "rollout.vllm.api_key_env", "not the key itself"),
    ],
)  # fmt: skip
def test_contradictions_are_named(rollout: dict[str, Any], key: str, words: str) -> None:
    (conflict,) = check_combinations(config(**rollout)).conflicts
    assert conflict.keys[0] == key
    assert words in conflict.message
    assert "secret" not in conflict.message + conflict.fix
    assert "sk-123" not in conflict.message + conflict.fix


def test_settings_of_an_engine_that_is_not_used_get_a_note() -> None:
    notes = check_combinations(config(vllm={"python": "/p"}, importance_cap=3.0)).notes
    assert "rollout.vllm.python, rollout.importance_cap: no effect with rollout.engine transformers" in notes
    assert check_combinations(config(engine="vllm", vllm={"python": "/p"})).notes == []
