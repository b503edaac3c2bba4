# Together: the prediction and the row's target.
def exact_match_reward(prediction: str, target: str) -> float:
    return 1.0 if prediction.strip() == target.strip() else 0.0
