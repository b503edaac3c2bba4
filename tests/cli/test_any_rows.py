"""300 files of rows, whole and broken, through the command line: read or refused, never an internal error."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.sampled_from(
    ["", " ", "Add 1 and 2.", "007", "[]", "[{", "<|end|>", '[{"role": "user", "content": "x"}]']
)
ROLE = st.sampled_from(
    ["user", "assistant", "system", "tool", "human", "gpt", "function_call", "who", 3, None]
)
CALL = st.fixed_dictionaries(
    {
        "function": st.fixed_dictionaries(
            {"name": TEXT, "arguments": st.sampled_from(["{}", "{", {}, None, 5])}
        )
    }
)
MESSAGE = st.one_of(
    st.fixed_dictionaries(
        {
            "role": ROLE,
            "content": st.one_of(
                TEXT, st.none(), st.lists(st.fixed_dictionaries({"text": TEXT}), max_size=2)
            ),
        },
        optional={
            "tool_calls": st.lists(CALL, max_size=2),
            "name": TEXT,
            "prefix": st.booleans(),
            "weight": TEXT,
        },
    ),
    st.fixed_dictionaries({"from": ROLE, "value": TEXT}),
    st.sampled_from([{}, [], "x", None]),
)
VALUE = st.one_of(
    TEXT, st.lists(MESSAGE, max_size=4), st.none(), st.integers(), st.booleans(),
    st.fixed_dictionaries({"ground_truth": TEXT}),
)  # fmt: skip
KEYS = [
    *(
        "messages",
        "conversations",
        "prompt",
        "completion",
        "instruction",
        "input",
        "output",
        "context",
        "task",
    ),
    *(
        "question",
        "answer",
        "problem",
        "query",
        "response",
        "system",
        "history",
        "tools",
        "reward_model",
        "id",
        "x",
    ),
]
WHOLE = st.sampled_from(
    [
        {
            "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}],
            "answer": "Ho",
        },
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]},
        {"prompt": [{"role": "user", "content": "Hi"}], "reward_model": {"ground_truth": "Ho"}},
        {"prompt": "Hi", "completion": "Ho"},
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        {"task": "Add.", "input": "1 and 2", "output": "3"},
        {"question": "1+2?", "answer": "3"},
        {"problem": "1+2?", "solution": "3"},
    ]
)
ANY = st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=4)
CHANGED = st.builds(
    lambda row, more: {**row, **more}, WHOLE, st.dictionaries(st.sampled_from(KEYS), VALUE, max_size=1)
)
ROWS = st.one_of(st.lists(CHANGED, min_size=1, max_size=2), st.lists(ANY, min_size=1, max_size=3))


def test_any_rows(rft, tmp_path):
    counts = {0: 0, 2: 0}

    @settings(max_examples=300)
    @given(ROWS)
    def check(rows):
        (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = rft("validate", "-t", "x.jsonl")
        assert found.code in counts, found.err
        assert "internal error" not in found.err
        assert found.code == 0 or "x.jsonl" in found.err
        counts[found.code] += 1

    check()
    assert min(counts.values()) > 30
