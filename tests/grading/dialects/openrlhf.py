# OpenRLHF: queries are prompts with their completions, and the answer is a dict of tensors.
import numpy as np


def reward_func(queries, prompts, labels, **kwargs):
    texts = [query[len(prompt) :] for query, prompt in zip(queries, prompts)]
    rewards = np.array([float(label in text) for text, label in zip(texts, labels)])
    return {
        "rewards": rewards,
        "scores": rewards,
        "extra_logs": {"length": np.array([len(t) for t in texts])},
    }
