"""Graders that compare two texts in this process, the metrics of `text_similarity`, and completions that are not JSON.

OpenAI names the metrics, and rapidfuzz for fuzzy_match, but publishes no functions, tokens and smoothing. Each metric
here is the call that OpenAI's guides show, or else the library's standard one; libraries load when they are used."""

from __future__ import annotations

import operator
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from rft_cli.errors import UsageError
from rft_cli.grading.openai.schema import Metric
from rft_cli.grading.openai.templates import SAMPLE_PARSE, Missing, Scope, Template
from rft_cli.grading.protocol import PartGrader
from rft_cli.types import Grade, GradeError, GradeRequest

Compare = Callable[[str, str], float]
"""(input, reference) → reward."""

UNPARSED = "sample_parse_error"
"""The component that counts completions which are not JSON."""


def _contains_in_any_case(text: str, reference: str) -> bool:
    return reference.casefold() in text.casefold()


OPERATIONS: dict[str, Compare] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "neq": operator.ne,
    "like": operator.contains,
    "ilike": _contains_in_any_case,
}
"""The operations of `string_check`; ilike compares casefolded texts."""


class TextGrader(PartGrader):
    """Compares two rendered templates: `string_check`, and metrics of `text_similarity`."""

    def __init__(self, text: Template, reference: Template, compare: Compare) -> None:
        self._text = text
        self._reference = reference
        self._compare = compare

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        return [self._grade(request) for request in requests]

    def _grade(self, request: GradeRequest) -> Grade:
        start = time.perf_counter()
        scope = Scope(request)
        try:
            reward = float(self._compare(self._text.render(scope), self._reference.render(scope)))
        except Missing as missing:
            return Grade("failed", error=missing.error, seconds=time.perf_counter() - start)
        # A metric's library may fail on some texts.
        except Exception as error:
            failure = GradeError("raised", f"{type(error).__name__}: {error}", traceback.format_exc())
            return Grade("failed", error=failure, seconds=time.perf_counter() - start)
        return Grade("graded", reward, seconds=time.perf_counter() - start)


class JsonGrader(PartGrader):
    """A grader whose templates read the completion as JSON: where it is not JSON, its reward is 0, as at OpenAI.

    So a model can learn the form. The component `sample_parse_error` counts these completions: its mean is their share.
    """

    def __init__(self, grader: PartGrader) -> None:
        self._grader = grader

    def grade(self, requests: Sequence[GradeRequest]) -> list[Grade]:
        return [_without_parse_error(grade) for grade in self._grader.grade(requests)]

    def stream(self, requests: Iterable[GradeRequest]) -> Iterator[list[Grade]]:
        return ([_without_parse_error(grade) for grade in burst] for burst in self._grader.stream(requests))

    def close(self) -> None:
        self._grader.close()


def _without_parse_error(grade: Grade) -> Grade:
    unparsed = grade.error is not None and grade.error.kind == SAMPLE_PARSE
    components = {**grade.components, UNPARSED: float(unparsed)}
    if not unparsed:
        return replace(grade, components=components)
    return replace(grade, status="graded", reward=0.0, components=components, error=None)


def similarity(metric: Metric) -> Compare:
    """The function of a metric that needs no endpoint, (input, reference) → 0..1.

    Raises ImportError where its library is missing, UsageError where its data is.
    """
    makers = {"fuzzy_match": _fuzzy, "bleu": _bleu, "gleu": _gleu, "meteor": _meteor}
    return makers[metric]() if metric in makers else _rouge(metric)


def _fuzzy() -> Compare:
    """rapidfuzz's WRatio on texts in lower case without punctuation, as in OpenAI's example of a python grader."""
    from rapidfuzz import fuzz, utils

    return lambda text, reference: fuzz.WRatio(text, reference, processor=utils.default_process) / 100


def _bleu() -> Compare:
    """sacrebleu's sentence BLEU with its defaults: 13a tokens, exponential smoothing, effective n-gram order."""
    from sacrebleu import sentence_bleu

    # A perfect match may come out a rounding error over 100.
    return lambda text, reference: min(1.0, sentence_bleu(text, [reference]).score / 100)


def _gleu() -> Compare:
    """nltk's sentence GLEU (Google BLEU, n-grams 1 to 4: Wu et al. 2016) on sacrebleu's 13a tokens."""
    from nltk.translate.gleu_score import sentence_gleu

    tokens = _tokenizer()
    return lambda text, reference: float(sentence_gleu([tokens(reference)], tokens(text)))


def _meteor() -> Compare:
    """nltk's METEOR with its defaults (alpha 0.9, beta 3, gamma 0.5) on 13a tokens.

    Words match exactly, then by stem; nltk looks up the remaining stems in WordNet.
    """
    from nltk.corpus import wordnet
    from nltk.translate.meteor_score import meteor_score

    try:
        wordnet.ensure_loaded()
    except LookupError:
        raise UsageError(
            "meteor needs WordNet, which is not installed", "python -m nltk.downloader wordnet"
        ) from None
    tokens = _tokenizer()
    return lambda text, reference: float(meteor_score([tokens(reference)], tokens(text)))


def _rouge(metric: Metric) -> Compare:
    """rouge-score's F-measure, without stemming. Its tokens are runs of a-z and 0-9: other scripts score 0."""
    from rouge_score.rouge_scorer import RougeScorer

    name = f"rouge{metric.removeprefix('rouge_').upper()}"
    scorer = RougeScorer([name])
    return lambda text, reference: float(scorer.score(reference, text)[name].fmeasure)


def _tokenizer() -> Callable[[str], list[str]]:
    """The tokens that BLEU is reported with (mteval 13a), for the metrics of nltk, which take tokens."""
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    tokenize = Tokenizer13a()
    return lambda text: str(tokenize(text)).split()
