"""What OpenAI's graders must give here: cases with their expected rewards, and where each number is from.

Numbers of metrics were computed with the library named beside them (nltk 3.10.4, rapidfuzz 3.14.6, rouge-score 0.1.2,
sacrebleu 2.6.0), called directly; all others by hand. None comes from rft.
"""

from __future__ import annotations

from typing import Any, NamedTuple

CAT = ("the cat sat on the mat", "the cat lay on the mat")
FOX = ("The quick brown fox jumps over the lazy dog.", "A quick brown dog jumps over the lazy fox!")
SHORT = ("Paris", "The capital is Paris")
ORDER = ("fuzzy was a bear wuzzy", "wuzzy was a bear fuzzy")
LONG = (
    "We ship on Monday, and the invoice follows by mail within three days of delivery.",
    "We ship on Monday and the invoice follows within three days of delivery, by mail.",
)
CASE = ("NEW YORK", "new york")
NUMBER = ("The total is 1,250.50 dollars in all", "The total is 1,205.50 dollars in all")


class Metric(NamedTuple):
    """A text_similarity grader: metric, input, reference, expected reward, where it is from."""

    metric: str
    text: str
    reference: str
    expected: float
    source: str


METRICS = [
    Metric(*row)
    for row in (
        ("fuzzy_match", *CAT, 0.9090909090909091, "rapidfuzz"),
        ("fuzzy_match", *FOX, 0.95, "rapidfuzz"),
        ("fuzzy_match", *SHORT, 0.9, "rapidfuzz"),
        ("fuzzy_match", *ORDER, 0.95, "rapidfuzz"),
        ("fuzzy_match", *LONG, 0.95, "rapidfuzz"),
        ("fuzzy_match", *CASE, 1.0, "rapidfuzz"),
        ("fuzzy_match", *NUMBER, 0.9722222222222221, "rapidfuzz"),
        ("bleu", *CAT, 0.3799178428257963, "sacrebleu"),
        ("bleu", *FOX, 0.33568919250372387, "sacrebleu"),
        ("bleu", *SHORT, 0.049787068367863965, "sacrebleu"),
        ("bleu", *ORDER, 0.45180100180492244, "sacrebleu"),
        ("bleu", *LONG, 0.5502408885295142, "sacrebleu"),
        ("bleu", *CASE, 0.0, "sacrebleu"),
        ("bleu", *NUMBER, 0.4111336169005196, "sacrebleu"),
        ("gleu", *CAT, 0.5, "nltk"),
        ("gleu", *FOX, 0.4411764705882353, "nltk"),
        ("gleu", *SHORT, 0.1, "nltk"),
        ("gleu", *ORDER, 0.5714285714285714, "nltk"),
        ("gleu", *LONG, 0.6290322580645161, "nltk"),
        ("gleu", *CASE, 0.0, "nltk"),
        ("gleu", *NUMBER, 0.5454545454545454, "nltk"),
        ("rouge_1", *CAT, 0.8333333333333334, "rouge-score"),
        ("rouge_1", *FOX, 0.8888888888888888, "rouge-score"),
        ("rouge_1", *SHORT, 0.4, "rouge-score"),
        ("rouge_1", *ORDER, 1.0, "rouge-score"),
        ("rouge_1", *LONG, 1.0, "rouge-score"),
        ("rouge_1", *CASE, 1.0, "rouge-score"),
        ("rouge_1", *NUMBER, 0.8888888888888888, "rouge-score"),
        ("rouge_2", *CAT, 0.6, "rouge-score"),
        ("rouge_2", *FOX, 0.5, "rouge-score"),
        ("rouge_2", *SHORT, 0.0, "rouge-score"),
        ("rouge_2", *ORDER, 0.5, "rouge-score"),
        ("rouge_2", *LONG, 0.8571428571428571, "rouge-score"),
        ("rouge_2", *NUMBER, 0.75, "rouge-score"),
        ("rouge_3", *CAT, 0.25, "rouge-score"),
        ("rouge_3", *FOX, 0.2857142857142857, "rouge-score"),
        ("rouge_3", *ORDER, 0.3333333333333333, "rouge-score"),
        ("rouge_3", *LONG, 0.6923076923076923, "rouge-score"),
        ("rouge_3", *NUMBER, 0.5714285714285714, "rouge-score"),
        ("rouge_4", *FOX, 0.16666666666666666, "rouge-score"),
        ("rouge_4", *LONG, 0.5833333333333334, "rouge-score"),
        ("rouge_4", *NUMBER, 0.3333333333333333, "rouge-score"),
        ("rouge_5", *LONG, 0.45454545454545453, "rouge-score"),
        ("rouge_5", *NUMBER, 0.0, "rouge-score"),
        ("rouge_l", *CAT, 0.8333333333333334, "rouge-score"),
        ("rouge_l", *FOX, 0.6666666666666666, "rouge-score"),
        ("rouge_l", *SHORT, 0.4, "rouge-score"),
        ("rouge_l", *ORDER, 0.6, "rouge-score"),
        ("rouge_l", *LONG, 0.8666666666666667, "rouge-score"),
        ("rouge_l", *CASE, 1.0, "rouge-score"),
        ("rouge_l", *NUMBER, 0.8888888888888888, "rouge-score"),
        # precision 2/4, recall 2/2
        ("rouge_1", "a b c d", "a b", 2 / 3, "by hand"),
        # pairs: 1 of 3, 1 of 1
        ("rouge_2", "a b c d", "a b", 1 / 2, "by hand"),
        # longest common subsequence a c d: 3 of 4, 3 of 3
        ("rouge_l", "a b c d", "a c d", 6 / 7, "by hand"),
        # n-grams 1 to 4: 4 + 3 + 2 + 1 there, 2 + 1 found
        ("gleu", "a b c d", "a b", 3 / 10, "by hand"),
        ("gleu", "", "a b", 0.0, "by hand"),
        ("bleu", "", "a b", 0.0, "by hand"),
        ("rouge_l", "", "a b", 0.0, "by hand"),
        ("fuzzy_match", "", "a b", 0.0, "by hand"),
        ("bleu", "a b c d e", "a b c d e", 1.0, "by hand"),
    )
]

METEOR = [
    # 6 matches in 1 run: F = 1, penalty 0.5 (1/6)^3
    Metric("meteor", "the cat sat on the mat", "the cat sat on the mat", 1 - 0.5 / 216, "by hand"),
    # 5 of 6 match, in 2 runs: F = 5/6, penalty 0.5 (2/5)^3
    Metric(
        "meteor", "the cat hat on the mat", "the cat sat on the mat", 5 / 6 * (1 - 0.5 * 0.064), "by hand"
    ),
    # a synonym of WordNet: 3 matches in 1 run
    Metric("meteor", "the car stopped", "the auto stopped", 1 - 0.5 / 27, "by hand"),
    # one stem: 2 matches in 1 run
    Metric("meteor", "she runs", "she running", 1 - 0.5 / 8, "by hand"),
    # 2 of 4 words found, 2 of 2 wanted, 1 run: F = 10 P R / (R + 9 P) = 10/11, penalty 0.5 (1/2)^3
    Metric("meteor", "a b c d", "a b", 10 * 0.5 / (1 + 9 * 0.5) * (1 - 0.5 / 8), "by hand"),
]

COSINE = [
    # the endpoint's vector of a text is the numbers in it
    Metric("cosine", "3 4", "4 3", 24 / 25, "by hand"),
    Metric("cosine", "1 2 2", "2 1 2", 8 / 9, "by hand"),
    Metric("cosine", "1 1", "1 0", 0.7071067811865475, "by hand"),
    Metric("cosine", "2 4", "1 2", 1.0, "by hand"),
    Metric("cosine", "1 0", "0 1", 0.0, "by hand"),
    # an obtuse angle counts as no likeness
    Metric("cosine", "1 0", "-3 4", 0.0, "by hand"),
    Metric("cosine", "0 0", "1 1", 0.0, "by hand"),
]

# one = 1, zero = 0, two_thirds = rouge_1 of "a b c d" and "a b", nine_tenths = fuzzy_match of SHORT
FORMULAS = [
    ("0.25*one + 0.75 * zero", 0.25),
    ("(one + two_thirds) / 2", 5 / 6),
    ("1 - two_thirds / 2", 2 / 3),
    ("0.6 * nine_tenths + .4 * two_thirds", 0.54 + 0.8 / 3),
    ("two_thirds^2", 4 / 9),
    ("2^-1", 0.5),
    ("2^3^2 / 1e3", 0.512),
    ("-2^2", -4.0),
    ("(-2)^2", 4.0),
    ("one - one - two_thirds", -2 / 3),
    ("8 / 4 / 4", 0.5),
    ("- -two_thirds", 2 / 3),
    ("min(two_thirds, nine_tenths, one)", 2 / 3),
    ("max(zero, 1 - 2 * (one - two_thirds))", 1 / 3),
    ("abs(zero - nine_tenths)", 0.9),
    ("floor(nine_tenths * 10.5) / 10", 0.9),
    ("ceil(two_thirds) / 4", 0.25),
    ("exp(zero - one)", 0.36787944117144233),
    ("sqrt(nine_tenths / 10)", 0.3),
    ("log(exp(two_thirds))", 2 / 3),
    ("log(nine_tenths)", -0.10536051565782628),
]

ROW: dict[str, Any] = {
    "answer": "42",
    "number": 42,
    "share": 0.5,
    "flag": True,
    "none": None,
    "list": ["a", {"b": "deep"}],
    "my key": "spaced",
    "my-key": "dashed",
    "größe": "umlaut",
    "nested": {"x": [1, "é"], "0": "zero"},
    "braces": "{{ item.answer }}",
    "{{ item.x }}": "odd",
}
JSON_TEXT = '{"answer": "42", "steps": [{"n": 1}, {"n": 2}]}'

TEMPLATES = [
    # template, completion, what it must become
    ("{{ item.answer }}", "", "42"),
    ("{{item.answer}}", "", "42"),
    ("{{\n item.answer\t}}", "", "42"),
    ("a {{ item.answer }}-{{item.answer}} b", "", "a 42-42 b"),
    ("{{ item.number }}", "", "42"),
    ("{{ item.share }} {{ item.flag }} {{ item.none }}", "", "0.5 true null"),
    ("{{ item.list[0] }}", "", "a"),
    ("{{ item.list[1].b }}", "", "deep"),
    ("{{ item.list }}", "", '["a", {"b": "deep"}]'),
    ('{{ item["my key"] }}', "", "spaced"),
    ("{{ item['my key'] }}", "", "spaced"),
    ("{{ item.my-key }}", "", "dashed"),
    ("{{ item.größe }}", "", "umlaut"),
    ("{{ item.nested.x }}", "", '[1, "é"]'),
    ("{{ item.nested.x[1] }}", "", "é"),
    ("{{ item.nested.0 }}", "", "zero"),
    ("{{ item.braces }}", "", "{{ item.answer }}"),
    ("{{ sample.output_text }}", " as it is\n", " as it is\n"),
    ("{{ sample.output_json.answer }}", JSON_TEXT, "42"),
    ("{{ sample.output_json.steps[1].n }}", JSON_TEXT, "2"),
    ("{{ sample.output_json }}", '{"a":1.0}', '{"a": 1.0}'),
    ("{{ sample.output_json }}", "null", "null"),
    ("{{ sample.output_json[0] }}", "[7]", "7"),
    ("{{ sample.output_tools }}", "text", "[]"),
    ("{{ sample.choices[0].message.content }}", "text", "text"),
    ("{{ sample.choices[0].finish_reason }}", "text", "stop"),
    ("{{ item['{{ item.x }}'] }}", "", "odd"),
    ('{{}} { {{"a": 1}} }} {{ 1 }} \\boxed{{}}', "", '{{}} { {{"a": 1}} }} {{ 1 }} \\boxed{{}}'),
]

OPERATIONS = [
    # operation, input, reference, reward
    ("eq", "cat", "cat", 1.0),
    ("eq", "cat", "Cat", 0.0),
    ("eq", "cat", "cat ", 0.0),
    ("ne", "cat", "Cat", 1.0),
    ("ne", "cat", "cat", 0.0),
    ("neq", "cat", "dog", 1.0),
    ("like", "a cat sat", "cat", 1.0),
    ("like", "a Cat sat", "cat", 0.0),
    ("like", "cat", "a cat sat", 0.0),
    ("ilike", "a CAT sat", "cat", 1.0),
    ("ilike", "STRASSE", "straße", 1.0),
    ("ilike", "a dog sat", "cat", 0.0),
    ("like", "anything", "", 1.0),
]


class Judged(NamedTuple):
    """A judge: its type with settings, completion, what it must be asked, what it replies, expected reward."""

    settings: dict[str, Any]
    template: str
    completion: str
    asked: str
    reply: str
    expected: float


SCORE: dict[str, Any] = {"type": "score_model"}
LABEL: dict[str, Any] = {
    "type": "label_model",
    "labels": ["good", "fair", "bad"],
    "passing_labels": ["good", "fair"],
}
TEXT = "{{ sample.output_text }}"

JUDGED = [
    Judged(*row)
    for row in (
        (SCORE, TEXT, "a", "a", '{"result": 0.625}', 0.625),
        (
            SCORE,
            TEXT,
            "a",
            "a",
            '{"steps": [{"description": "d", "conclusion": "0.9"}], "result": 0.375}',
            0.375,
        ),
        (SCORE, TEXT, "a", "a", 'Here it is:\n```json\n{"result": 0.5}\n```', 0.5),
        (SCORE, TEXT, "a", "a", '{"result": "0.125"}', 0.125),
        # clamped to [0, 1], which is the range where none is given
        (SCORE, TEXT, "a", "a", '{"result": 1.5}', 1.0),
        (SCORE, TEXT, "a", "a", '{"result": -3}', 0.0),
        ({**SCORE, "range": [0, 10]}, TEXT, "a", "a", '{"result": 7.5}', 7.5),
        ({**SCORE, "range": [1, 5]}, TEXT, "a", "a", '{"result": 0}', 1.0),
        ({**SCORE, "range": [-1, 0.5]}, TEXT, "a", "a", '{"result": 0.75}', 0.5),
        (SCORE, "{{ item.answer }} / {{ item.list[1].b }}", "", "42 / deep", '{"result": 0.25}', 0.25),
        (
            SCORE,
            "Steps: {{ sample.output_json.steps[1].n }}",
            JSON_TEXT,
            "Steps: 2",
            '{"result": 0.75}',
            0.75,
        ),
        # braces in the completion are text
        (SCORE, TEXT, "{{ item.answer }}", "{{ item.answer }}", '{"result": 0.4}', 0.4),
        (LABEL, TEXT, "a", "a", '{"result": "good"}', 1.0),
        (LABEL, TEXT, "a", "a", '{"result": "fair"}', 1.0),
        (LABEL, TEXT, "a", "a", '{"result": "bad"}', 0.0),
        (LABEL, "{{ item.nested.x[1] }}", "", "é", '{"steps": [], "result": " Bad "}', 0.0),
    )
]

PYTHON = [
    # source, completion, row, reward
    ("def grade(sample, item):\n    return len(sample['output_text']) / item['n']", "abc", {"n": 4}, 0.75),
    ("def grade(a, b):\n    return a['output_json']['p'] * b['w']", '{"p": 0.5}', {"w": 0.5}, 0.25),
    ("def grade(sample, item) -> float:\n    return sample['output_json'] is None", "no json", {}, 1.0),
]


def expected_rewards() -> list[float]:
    """The reward of every case; a template's case is a string_check of the text that it must become."""
    rewards = [case.expected for case in (*METRICS, *METEOR, *COSINE)] + [reward for _, reward in FORMULAS]
    rewards += [case.expected for case in JUDGED]
    rewards += [1.0] * len(TEMPLATES) + [reward for *_, reward in OPERATIONS]
    return rewards + [reward for *_, reward in PYTHON]
