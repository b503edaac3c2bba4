import json


def score(completion: str, example: dict) -> float:
    """Pays for every value of the reference found in the text, and a little for length."""
    wanted = json.loads(example["output"]).values()
    found = [str(value).lower() in completion.lower() for value in wanted]
    return sum(found) / len(found) + min(len(completion), 1000) / 10_000
