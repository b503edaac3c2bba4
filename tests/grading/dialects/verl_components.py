# verl: a dict with score; what else has a number in it is shown.
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    right = ground_truth in solution_str
    return {"score": float(right), "acc": right, "pred": solution_str, "kind": data_source}
