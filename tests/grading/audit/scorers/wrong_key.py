def score(completion: str, example: dict) -> float:
    """Compares with a key that no row has."""
    return float(completion == example.get("expected", ""))
