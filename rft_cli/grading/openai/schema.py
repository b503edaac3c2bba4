"""The graders that a spec can name, as strict pydantic models: the fields of OpenAI's API and no others.

Validation also parses templates and formulas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from rft_cli.config.suggest import did_you_mean
from rft_cli.grading.openai.formula import parse_formula
from rft_cli.grading.openai.problems import SpecProblem
from rft_cli.grading.openai.templates import parse_template

Metric = Literal[
    "fuzzy_match", "bleu", "gleu", "meteor", "cosine", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l",
]  # fmt: skip
_TEXT_PARTS = ("input_text", "output_text")
_MEDIA = {"input_image": "images", "input_audio": "audio", "image_url": "images"}


def _check_template(text: str) -> str:
    parse_template(text)
    return text


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise SpecProblem("must be a finite number")
    return number


def _model_name(name: str) -> str:
    if not name.strip():
        raise SpecProblem("is empty", "name the model that judges")
    if "{{" in name:
        raise SpecProblem("holds a template", "templates work in messages only: name one model")
    return name


TemplateText = Annotated[str, AfterValidator(_check_template)]
ModelName = Annotated[str, AfterValidator(_model_name)]
Finite = Annotated[float, AfterValidator(_finite)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Grader(_Model):
    name: str
    pass_threshold: Finite | None = None
    """Accepted without effect: a reward is a number here."""


class StringCheck(_Grader):
    """1 or 0: whether `input` and `reference` are equal (eq), differ (ne, neq), or the first contains the second
    (like; ilike regardless of case)."""

    type: Literal["string_check"]
    operation: Literal["eq", "ne", "neq", "like", "ilike"]
    input: TemplateText
    reference: TemplateText


class TextSimilarity(_Grader):
    """0 to 1: how similar `input` is to `reference` by a metric."""

    type: Literal["text_similarity"]
    evaluation_metric: Metric
    input: TemplateText
    reference: TemplateText


class Python(_Grader):
    """What `grade(sample, item)` in `source` returns."""

    type: Literal["python"]
    source: str
    image_tag: str | None = None


def _read_content(value: Any) -> tuple[str, ...]:
    """A message's content as texts, which may contain templates: of a string, a text part, or a list of these."""
    parts = value if isinstance(value, list) else [value]
    if not parts:
        raise SpecProblem("is empty", "write the text of the message")
    return tuple(_read_part(part) for part in parts)


def _read_part(part: Any) -> str:
    if isinstance(part, str):
        return _check_template(part)
    if not isinstance(part, dict):
        raise SpecProblem("must be text, or parts such as {type: input_text, text: …}")
    kind = part.get("type")
    if kind in _MEDIA:
        raise SpecProblem(
            f"a part of type '{kind}': judges get text only here, no {_MEDIA[kind]}",
            "remove the part, or describe it in text",
        )
    if kind not in _TEXT_PARTS:
        near = did_you_mean(str(kind), _TEXT_PARTS) if kind else None
        raise SpecProblem(
            f"a part of type {kind!r}", near or "a part is {type: input_text, text: …} or a string"
        )
    if not isinstance(part.get("text"), str):
        raise SpecProblem(f"a part of type '{kind}' without text", "add its text")
    unknown = [key for key in part if key not in ("type", "text", "prompt_cache_breakpoint")]
    if unknown:
        raise SpecProblem(f"a part with an unknown field '{unknown[0]}'", "a part has type and text")
    return _check_template(part["text"])


class InputMessage(_Model):
    """One message to a judge."""

    role: Literal["user", "assistant", "system", "developer"]
    content: Annotated[tuple[str, ...], BeforeValidator(_read_content)]
    type: Literal["message"] | None = None


class SamplingParams(_Model):
    """How a judge model is sampled; None leaves a setting to the endpoint."""

    seed: int | None = None
    temperature: Annotated[Finite, Field(ge=0)] | None = None
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None


class ScoreModel(_Grader):
    """The number that a judge model gives, clamped to `range`."""

    type: Literal["score_model"]
    model: ModelName
    input: Annotated[list[InputMessage], Field(min_length=1)]
    range: list[Finite] | None = None
    sampling_params: SamplingParams | None = None

    @field_validator("range")
    @classmethod
    def _two_in_order(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and (len(value) != 2 or value[0] >= value[1]):
            raise SpecProblem("must be two numbers, the lower one first", "for example [0, 1]")
        return value

    def bounds(self) -> tuple[float, float]:
        """Lowest and highest reward."""
        return (0.0, 1.0) if self.range is None else (float(self.range[0]), float(self.range[1]))


class LabelModel(_Grader):
    """1 or 0: whether the label that a judge model chose is among `passing_labels`."""

    type: Literal["label_model"]
    model: ModelName
    input: Annotated[list[InputMessage], Field(min_length=1)]
    labels: Annotated[list[str], Field(min_length=1)]
    passing_labels: Annotated[list[str], Field(min_length=1)]

    @field_validator("passing_labels")
    @classmethod
    def _are_labels(cls, value: list[str], info: ValidationInfo) -> list[str]:
        labels = info.data.get("labels", value)
        strange = [label for label in value if label not in labels]
        if strange:
            fix = did_you_mean(strange[0], labels) or f"the labels are: {', '.join(labels)}"
            raise SpecProblem(f"'{strange[0]}' is not among the labels", fix)
        return value


class Multi(_Grader):
    """The value of `calculate_output`, in which each key of `graders` stands for that grader's reward."""

    type: Literal["multi"]
    graders: Mapping[str, Any]
    """Validated graders; the loader reads each by itself, so that every problem has its place."""
    calculate_output: str

    @field_validator("graders")
    @classmethod
    def _not_empty(cls, value: Mapping[str, Any]) -> Mapping[str, Any]:
        if not value:
            raise SpecProblem("holds no grader", "write graders as NAME: {type: …}")
        return value

    @field_validator("calculate_output")
    @classmethod
    def _parses(cls, value: str, info: ValidationInfo) -> str:
        parse_formula(value, info.data.get("graders"))
        return value


JudgeModel = ScoreModel | LabelModel
Leaf = StringCheck | TextSimilarity | Python | JudgeModel
Spec = Leaf | Multi

MODELS: dict[str, type[Spec]] = {
    "string_check": StringCheck,
    "text_similarity": TextSimilarity,
    "score_model": ScoreModel,
    "label_model": LabelModel,
    "python": Python,
    "multi": Multi,
}
