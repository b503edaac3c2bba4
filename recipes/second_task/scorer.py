"""Grade a word problem: is the number after #### the right one?"""

import re

_ANSWER = re.compile(r"####\s*(-?\d{1,12})\s*$")


def score(completion: str, example: dict[str, str]) -> dict[str, float]:
    """1.0 when the completion ends with `#### ` and the number that ends example["answer"], else 0.0."""
    expected = _ANSWER.search(example["answer"])
    found = _ANSWER.search(completion)
    return {"reward": float(bool(found and expected and int(found[1]) == int(expected[1])))}
