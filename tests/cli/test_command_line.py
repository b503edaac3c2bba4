"""An option that takes one value stands once; an option that is another tool's setting is told as ours."""

import pytest

from rft_cli.cli import app


def one_value_options():
    import typer.main

    group = typer.main.get_command(app)
    return [
        (name, max(param.opts, key=len))
        for name, command in group.commands.items()
        for param in command.params
        if param.param_type_name == "option" and not (param.multiple or param.is_flag)
    ]


@pytest.mark.parametrize(("command", "option"), one_value_options())
def test_a_second_value_is_refused(rft, files, command, option):
    found = rft(command, option, "1", "train.jsonl", f"{option}=2")
    assert found.code == 2
    assert found.err == f"error: {option}: given 2 times, and it takes one value\n  fix: keep one of them\n"
    assert sorted(path.name for path in files.iterdir()) == [
        "scorer.py",
        "test.jsonl",
        "train.jsonl",
        "val.jsonl",
    ]


def test_short_long_and_underscored_spellings_are_one_option(rft, files):
    assert (
        "--n-epochs: given 3 times" in rft("create", "--n-epochs", "1", "--n_epochs", "2", "--n-epochs=3").err
    )
    assert "--model: given 2 times" in rft("validate", "-m", "a", "--model", "b").err


def test_flags_and_lists_may_be_repeated(rft, files):
    found = rft(
        "validate", "-t", "train.jsonl", "--json", "--json", "--set", "seed=1", "--set", "optim.n_epochs=2"
    )
    assert found.code == 0, found.err


@pytest.mark.parametrize(
    ("option", "fix"),
    [
        (
            "--num-generations",
            "TRL's num_generations is rollout.group_size here; give --set rollout.group_size=VALUE",
        ),
        ("--num_train_epochs=3", "TRL's num_train_epochs is optim.n_epochs here; give --n-epochs VALUE"),
        ("--dataset_name", "TRL's dataset_name is data.train here; give --training-file VALUE"),
        ("--group-size", "give --set rollout.group_size=VALUE"),
        ("--training-files", None),
    ],
)
def test_an_option_that_is_a_setting_elsewhere(rft, files, option, fix):
    found = rft("create", option, "3")
    assert found.code == 2
    if fix is None:
        assert "No such option: --training-files (Possible options: --training-file" in found.err
    else:
        assert found.err.startswith(
            f"error: {option.partition('=')[0].replace('_', '-')}: no such option\n  fix: {fix}"
        )
