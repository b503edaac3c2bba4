"""Sample a model on a data file and grade it.

    python -m recipes.measure DIR --data FILE --scorer FILE -k 16

Prints mean reward, share of completions with everything right, and pass@k, for each temperature (0 is greedy).
With `--fields` it also prints how often the model prefers the right value of each field inside an exact record.
"""

import argparse
import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

Row = dict[str, Any]
Score = Callable[[str, Row], dict[str, float]]
BATCH = 128


def load_scorer(path: Path) -> Score:
    """The `score` function of a scorer file."""
    spec = importlib.util.spec_from_file_location("scorer", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    score: Score = module.score
    return score


def prompt(tokenizer: PreTrainedTokenizerBase, row: Row) -> str:
    """The row as rft renders it: one user message in the chat template."""
    text = f"{row['task']}\n\n{row['input']}" if "task" in row else row["question"]
    messages = [{"role": "user", "content": text}]
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def complete(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    temperature: float,
    max_tokens: int,
) -> list[str]:
    """One completion a prompt; temperature 0 is greedy."""
    generate: Any = model.generate
    completions: list[str] = []
    for start in range(0, len(prompts), BATCH):
        batch = tokenizer(
            prompts[start : start + BATCH],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
        )
        sampling = {"temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {}
        with torch.inference_mode():
            out = generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                do_sample=temperature > 0,
                max_new_tokens=max_tokens,
                **sampling,
            )
        completions += tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return completions


def pass_at_k(right: int, tries: int, k: int) -> float:
    """The unbiased estimate of the chance that one of k completions is right, given `right` of `tries`."""
    return 1.0 - math.comb(tries - right, k) / math.comb(tries, k)


def measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Row],
    score: Score,
    temperature: float,
    k: int,
) -> dict[str, float]:
    """Mean reward, share all right, pass@1 and pass@k over the rows."""
    tries = k if temperature else 1
    prompts = [prompt(tokenizer, row) for row in rows for _ in range(tries)]
    completions = complete(model, tokenizer, prompts, temperature, max_tokens=64)
    graded = [score(text, rows[i // tries]) for i, text in enumerate(completions)]
    right = [float(grade.get("all_correct", grade["reward"])) for grade in graded]
    per_row = [int(sum(right[i : i + tries])) for i in range(0, len(right), tries)]
    means = {name: sum(grade[name] for grade in graded) / len(graded) for name in graded[0]}
    passes = {
        f"pass@{n}": sum(pass_at_k(c, tries, n) for c in per_row) / len(per_row) for n in sorted({1, tries})
    }
    return {"temperature": temperature, **means, **passes}


def field_knowledge(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[Row]
) -> dict[str, float]:
    """Teacher-forced: probability of each right value inside the exact record, and whether it is the likeliest.

    The order counts as copied when every digit is the likeliest one once the first quote is written.
    """
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}

    def add(name: str, value: float) -> None:
        sums[name] = sums.get(name, 0.0) + value
        counts[name] = counts.get(name, 0) + 1

    for row in rows:
        expected = json.loads(row["output"])
        start, options = (
            prompt(tokenizer, row) + "{",
            {
                "team": ("billing", "shipping", "returns", "technical"),
                "priority": ("low", "normal", "high"),
            },
        )
        for name, values in options.items():
            start += f'"{name}": "'
            chances = {value: _chance(model, tokenizer, start, value + '",')[0] for value in values}
            add(f"P({name})", chances[expected[name]])
            add(f"argmax {name}", float(max(chances, key=chances.__getitem__) == expected[name]))
            if name == "priority":
                add(f"P(priority={expected[name]})", chances[expected[name]])
            start += expected[name] + '", '
        start += '"order":'
        value = f' "{expected["order"]}"}}' if expected["order"] else " null}"
        add(
            "P(order named)" if expected["order"] else "P(order null)",
            _chance(model, tokenizer, start, value)[0],
        )
        if expected["order"]:
            chance, likeliest = _chance(model, tokenizer, start + ' "', f'{expected["order"]}"}}')
            add("P(digits | a number is written)", chance)
            add("argmax digits", likeliest)
    return {name: total / counts[name] for name, total in sums.items()}


def _chance(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, start: str, value: str
) -> tuple[float, float]:
    """Probability of the value after the start, and whether each of its tokens is the likeliest."""
    ids = tokenizer(start + value, return_tensors="pt", add_special_tokens=False)["input_ids"]
    length = len(tokenizer(start, add_special_tokens=False)["input_ids"])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[0, length - 1 : -1].float()
    targets = ids[0, length:]
    chosen = logits.log_softmax(-1).gather(1, targets[:, None]).sum()
    return float(chosen.exp()), float(bool((logits.argmax(-1) == targets).all()))


def rounded(values: dict[str, float]) -> str:
    """The numbers as one line of JSON."""
    return json.dumps({name: round(value, 3) for name, value in values.items()})


def main() -> None:
    """Parse the command line and print one JSON object a temperature."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scorer", type=Path, required=True)
    parser.add_argument("-k", type=int, default=16)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 0.6, 0.0])
    parser.add_argument("--rows", type=int, default=None, help="only the first rows")
    parser.add_argument("--fields", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    lines = arguments.data.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines][: arguments.rows]
    score = load_scorer(arguments.scorer)
    for temperature in arguments.temperatures:
        torch.manual_seed(arguments.seed)
        result = measure(model, tokenizer, rows, score, temperature, arguments.k)
        print(rounded(result))
    if arguments.fields:
        print(rounded(field_knowledge(model, tokenizer, rows)))


if __name__ == "__main__":
    main()
