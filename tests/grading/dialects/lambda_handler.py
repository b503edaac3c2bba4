# AWS: a list of samples in, a list of scores out.
def lambda_handler(event, context):
    return [
        {"id": s["id"], "aggregate_reward_score": float("4" in s["messages"][-1]["content"])} for s in event
    ]
