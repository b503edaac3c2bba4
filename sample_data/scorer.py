"""Grade a triage record: is it JSON, and are team, priority and order right?"""

import json

FIELDS = ("team", "priority", "order")


def score(completion: str, example: dict[str, str]) -> dict[str, float]:
    """Compare the completion with the reference record in example["output"].

    0.1 for a JSON object with exactly the right keys and nothing around it, and 0.3 for each right field.
    Whatever else the dict holds is logged beside the reward; `all_correct` is the number a team would report.
    """
    expected = json.loads(example["output"])
    try:
        record = json.loads(completion)
    except (ValueError, RecursionError):  # not JSON, or brackets without end
        record = None
    if not isinstance(record, dict):
        record = {}

    right = {field: float(field in record and record[field] == expected[field]) for field in FIELDS}
    valid = float(set(record) == set(FIELDS))
    return {
        "reward": round(0.1 * valid + 0.3 * sum(right.values()), 6),
        "valid_json": valid,
        **right,
        "all_correct": float(valid == 1.0 and all(right.values())),
    }
