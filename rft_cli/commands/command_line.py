"""How every subcommand reads its command line: repeated options are refused, and unknown ones get a suggestion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperOption

from rft_cli.errors import UsageError, UsageErrors


class OneValueEach(TyperCommand):
    """A command that refuses a repeated option, whose last value would silently replace the first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # shell completion passes an unfinished line
        if not ctx.resilient_parsing:
            self._refuse_repeated(ctx, args)
        return super().parse_args(ctx, args)

    def _refuse_repeated(self, ctx: Any, args: Sequence[str]) -> None:
        try:
            _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        except Exception as error:
            unknown = getattr(error, "option_name", None)
            if unknown is not None and hasattr(error, "possibilities"):
                self._say_setting(unknown)
            raise
        problems = [
            UsageError(
                f"{max(param.opts, key=len)}: given {times} times, and it takes one value",
                "keep one of them",
            )
            for param, times in Counter(given).items()
            if times > 1 and isinstance(param, TyperOption) and not (param.multiple or param.is_flag)
        ]
        if problems:
            raise UsageErrors(problems)

    def _say_setting(self, option: str) -> None:
        """Raise UsageError if an unknown option is the name of a setting, ours or another tool's."""
        if not option.startswith("--") or not any("--set" in param.opts for param in self.params):
            return
        from rft_cli.config.other_names import setting_of_option

        fix = setting_of_option(option, {name for param in self.params for name in param.opts})
        if fix is not None:
            raise UsageError(f"{option}: no such option", fix)


def asks_for_json(args: Sequence[str]) -> bool:
    """Whether a command line, valid or not, asks for one JSON document on standard output."""
    options = args[: args.index("--")] if "--" in args else args
    return "--json" in options or (options[:1] == ["grade"] and "--summary" in options)
