import unicodedata


def score(completion: str, example: dict) -> float:
    """Right however it is written, in one way too many: full-width digits are folded."""
    return float(unicodedata.normalize("NFKC", completion).strip() == example["output"])
