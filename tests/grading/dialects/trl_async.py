# TRL: async, None where a row is of another kind, and TRL's own extras.
async def matches(completions, answer, completion_ids=None, log_metric=None, **kwargs):
    if log_metric:
        log_metric("seen", len(completions))
    kwargs["log_extra"]("golden", answer)
    return [None if right == "15" else float(right in text) for text, right in zip(completions, answer)]
