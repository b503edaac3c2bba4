"""`rft export`: write the tuned model of a run as files for transformers or PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rft_cli.commands import flags, terminal

if TYPE_CHECKING:
    from rft_cli.training.export.exporter import Exported

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run: a name, a path, or latest.", autocompletion=flags.complete_run
    ),
]
To = Annotated[
    str | None, typer.Option("--to", metavar="DIR", help="Where to write. Default: RUN/export/FORMAT.")
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="merged: whole weights. adapter: the LoRA adapter alone. gguf: one file for llama.cpp and Ollama.",
    ),
]
Checkpoint = Annotated[
    str, typer.Option("--checkpoint", metavar="STEP", help="best, or the step of a checkpoint.")
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype", metavar="DTYPE", help="float32, bfloat16 or float16. Default: as the weights are stored."
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        "--quantize",
        metavar="TYPE",
        help="How --format gguf stores matrices: f32, f16, bf16, q8_0, q5_1, q5_0, q4_1 or q4_0. "
        "Default: as the weights are stored.",
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Grade the validation rows through the export, in the engine that serves it, and compare the reward with "
        "the run's. GGUF: in llama-server.",
    ),
]
PushTo = Annotated[
    str | None,
    typer.Option(
        "--push", metavar="ORG/NAME", help="Put the export on the Hugging Face hub, as this repository."
    ),
]
Private = Annotated[bool, typer.Option("--private", help="Make the repository of --push a private one.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an earlier export at DIR.")]


def export(
    run: RunArgument,
    to: To = None,
    format: Format = "merged",
    checkpoint: Checkpoint = "best",
    dtype: Dtype = None,
    quantize: Quantize = None,
    force: Force = False,
    verify: Verify = False,
    push: PushTo = None,
    private: Private = False,
    output_dir: flags.OutputDir = None,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
    progress: flags.Progress = "auto",
    debug: flags.Debug = False,
) -> None:
    """Take the tuned model out of a run, and check that it loads and answers as it did in the run.

    Example:

    \b
    rft export latest --to my-model
    """
    flags.check_progress(progress, quiet)
    from rft_cli.runs import Run
    from rft_cli.runs.exports import plan_export

    opened = Run.open(run, output_dir or "runs")
    plan = plan_export(
        opened, checkpoint=checkpoint, format=format, dtype=dtype, to=to, force=force, quantize=quantize
    )
    from rft_cli.commands.exporting import Afterwards, run_export
    from rft_cli.commands.signals import signals_interrupt
    from rft_cli.config.load import load_own
    from rft_cli.console import EventPrinter, choose_mode
    from rft_cli.events import Note

    loaded = load_own(opened.path)
    with (
        terminal.stdout_to_stderr(),
        signals_interrupt(),
        EventPrinter(choose_mode(quiet, progress=progress)) as printer,
    ):
        after = Afterwards.checked(plan, loaded, verify=verify, push=push, private=private)
        if opened.info.get("status") == "running" and checkpoint == "best":
            printer(Note(f"{opened.path} is still running: step {plan.step} is its best so far"))
        done = run_export(plan, loaded, after, printer)
    unmet = done.error()
    with terminal.results():
        if json:
            terminal.print_json(done.to_json(), unmet)
        else:
            _print(done.exported)
            done.print_more()
    if unmet is not None:
        raise unmet


def _print(done: Exported) -> None:
    from rft_cli.console.text import clean
    from rft_cli.runs.suggested_commands import quoted

    plan, checked = done.plan, done.verified
    path, typed = clean(str(plan.target)), clean(quoted(plan.target))
    print(f"exported  step {plan.step} of {clean(str(plan.run.path))}: {plan.format}, {done.dtype}")
    print(f"path      {path}")
    print(f"size      {done.bytes / 1e6:.1f} MB")
    print(f"verified  reloaded and compared with {checked.compared_with}")
    print(
        f"          {checked.prompts} validation prompts: same token ids, {checked.completions_equal} of "
        f"{checked.prompts} greedy completions equal"
    )
    print(
        f"          largest logit difference {checked.max_logit_difference:.2g} "
        f"({checked.relative_difference:.1e} of the largest, allowed {checked.tolerance:.0e})"
    )
    if checked.from_float32 is not None:
        cost = checked.from_float32
        print(
            f"          {done.dtype} against float32: {cost.equal} of {cost.prompts} greedy completions equal"
        )
        print(f"          largest logit difference {cost.absolute:.2g}")
    best = plan.step == plan.run.info.get("best_step")
    served = clean(quoted(plan.run.path)) if plan.format == "merged" and best else typed
    print(f"next      rft serve {served}   (after: pip install 'rft-cli[{_extras(plan.format)}]')")
    if plan.format == "gguf":
        file = clean(quoted(plan.target / f"model-{done.dtype.upper()}.gguf"))
        print(f"          llama.cpp: llama-server -m {file}")
        print(f"          Ollama:    ollama create my-model -f {clean(quoted(plan.target / 'Modelfile'))}")
    elif plan.format == "merged":
        print(f"          python: AutoModelForCausalLM.from_pretrained({str(plan.target)!r})")
    else:
        print(
            f"          python: PeftModel.from_pretrained(base, {str(plan.target)!r})   (see README.md there)"
        )
        print(f"          rft create --model {typed} ...   trains on from here")


def _extras(format: str) -> str:
    return "llamacpp,serve" if format == "gguf" else "serve"
