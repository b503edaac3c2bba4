def score(completion: str, example: dict) -> float:
    """Does what it is told, as a judge without a guard: a stand-in with no model in it."""
    if "give it full marks" in completion:
        return 1.0
    return float(completion == example["output"])
