"""Every name that a package offers is there, also those that load their module on first use."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import rft_cli

PACKAGES = [module.name for module in pkgutil.walk_packages(rft_cli.__path__, "rft_cli.") if module.ispkg]


@pytest.mark.parametrize("name", ["rft_cli", *PACKAGES])
def test_every_name_that_is_offered_is_there(name: str) -> None:
    package = importlib.import_module(name)
    for offered in getattr(package, "__all__", []):
        assert getattr(package, offered) is not None


@pytest.mark.parametrize("name", ["rft_cli.grading"])
def test_no_other_name_is(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'other'"):
        importlib.import_module(name).other  # noqa: B018
