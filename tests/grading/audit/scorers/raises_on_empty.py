def score(completion: str, example: dict) -> float:
    """Looks at the first letter before it knows that there is one."""
    starts = completion[0] == example["output"][0]
    return float(starts and completion == example["output"])
