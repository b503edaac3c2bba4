"""The metrics of `text_similarity`, each from a well-kept library, scaled to 0..1. Libraries load when they are used.

OpenAI names the metrics, and rapidfuzz for fuzzy_match, but publishes no functions, tokens and smoothing. Each metric
here is the call that OpenAI's guides show, or else the library's standard one.
"""

from __future__ import annotations

from collections.abc import Callable

from rft_cli.errors import UsageError
from rft_cli.grading.openai.schema import Metric
from rft_cli.grading.openai.text_graders import Compare


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
