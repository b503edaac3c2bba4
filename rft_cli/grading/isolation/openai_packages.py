"""The packages of OpenAI's grader image. In a worker, a scorer may import nothing else.

The packages are OpenAI's list for `image_tag` 2025-05-08, and `_REQUIRED` is what those cannot be installed without.
Their versions are whatever rft's environment has.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from rft_cli.grading.isolation.scorer_module import finds_scorer

_PACKAGES = (
    "numpy scipy sympy pandas rapidfuzz sklearn rouge_score deepdiff jsonschema pydantic yaml nltk sqlparse rdkit "
    "skbio ast_grep_py"
)
_REQUIRED = (
    "mpmath dateutil pytz tzdata six joblib threadpoolctl absl orderly_set attr attrs referencing rpds "
    "jsonschema_specifications pydantic_core annotated_types typing_extensions click regex tqdm PIL natsort decorator "
    "h5py biom statsmodels patsy requests"
)
_NAMES = {"sklearn": "scikit-learn", "yaml": "pyyaml", "skbio": "scikit-bio", "rouge_score": "rouge-score"}
_INSIDE = frozenset({*_PACKAGES.split(), *_REQUIRED.split(), *sys.stdlib_module_names})
_KEPT = ("rft_", "__")
_frame, _missing = sys._getframe, ModuleNotFoundError


def in_image(module: str) -> bool:
    """Whether OpenAI's image has this module."""
    return module.partition(".")[0] in _INSIDE


def not_in_image(module: str) -> str:
    """The message for a scorer that imports this module."""
    return f"'{module.partition('.')[0]}' is not in OpenAI's grader image (grader.limits: openai)"


def install_name(module: str) -> str:
    """What `pip install` calls a package of the image."""
    top = module.partition(".")[0]
    return _NAMES.get(top, top.replace("_", "-"))


class OnlyTheImage:
    """An import hook: what the file at `path` imports itself must be in the image. Libraries import what they need."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called by `import`: None leaves the module to the other finders."""
        if path is None and name not in _INSIDE and self._asked_by_scorer():
            raise _missing(not_in_image(name), name=name)
        return None

    def _asked_by_scorer(self) -> bool:
        frame = _frame(2)
        while frame.f_back is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back
        if frame.f_code.co_filename.endswith("importlib/__init__.py") and frame.f_back is not None:
            frame = frame.f_back  # importlib.import_module
        return frame.f_code.co_filename == self._path


def stand_alone(path: str) -> None:
    """From now on the scorer at `path` imports only what the image has, and no modules from elsewhere."""
    sys.path[:] = [entry for entry in sys.path if _of_python(entry) or finds_scorer(entry)]
    sys.meta_path.insert(0, OnlyTheImage(path))
    for name in [name for name in sys.modules if not (in_image(name) or name.startswith(_KEPT))]:
        # rft's modules that need it hold it already.
        del sys.modules[name]


def python_folders() -> set[str]:
    """Folders in which Python and its packages lie."""
    site = sys.modules.get("site")
    user = getattr(site, "USER_SITE", None)
    return {sys.prefix, sys.base_prefix, sys.exec_prefix, *([user] if user else [])}


def _of_python(entry: str) -> bool:
    return any(entry == folder or entry.startswith(f"{folder}/") for folder in python_folders())
