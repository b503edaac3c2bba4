"""`report_to`: a job's figures and completions go to trackers too, through transformers' integrations.

A tracker gets what the run directory has, under the same names. What fails in a tracker later is a warning: the run
has all figures anyway.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from types import SimpleNamespace
from typing import Any, cast

from transformers.integrations import integration_utils

from rft_cli.config import RunConfig
from rft_cli.config.dump import with_absolute_paths
from rft_cli.config.flat import flat
from rft_cli.errors import UsageError
from rft_cli.events import Event, Finished, Note, OnEvent, Stepped, Validated
from rft_cli.report.estimates import component_names, row_means
from rft_cli.runs import Run
from rft_cli.training.hooks.tracker_tables import log_table
from rft_cli.types import Sample

PROJECT = "rft"
"""Project, or experiment, of every run where the tracker's own variable names no other."""
_CALLBACKS = {
    "tensorboard": "TensorBoardCallback",
    "wandb": "WandbCallback",
    "mlflow": "MLflowCallback",
    "trackio": "TrackioCallback",
}


@contextlib.contextmanager
def reporting(config: RunConfig, run: Run, on_event: OnEvent) -> Iterator[OnEvent]:
    """Inside, what the yielded function is called with goes to the trackers, and on to `on_event`.

    Raises UsageError where a tracker can't be started. Only one of a job's processes calls this.
    """
    if not config.trackers:
        yield on_event
        return
    with contextlib.ExitStack() as opened:
        trackers = []
        for name in config.trackers:
            tracker = _Tracker(name, config, run)
            opened.callback(tracker.close)
            on_event(Note(f"{name}: {tracker.where()}"))
            trackers.append(tracker)
        yield _Reporter(trackers, run, on_event)


class _Reporter:
    """Turns events into a tracker's figures."""

    def __init__(self, trackers: list[_Tracker], run: Run, on_event: OnEvent) -> None:
        self._trackers, self._run, self._on_event = trackers, run, on_event

    def __call__(self, event: Event) -> None:
        """Pass one event on, and report what it measured."""
        self._on_event(event)
        match event:
            case Stepped():
                self._report(event.step, {**event.metrics, "epoch": event.epoch})
            case Validated():
                samples = self._run.read_samples(f"step-{event.step:06d}")
                self._report(event.step, _validated(event, samples), samples)
            case Finished():
                test = event.result.get("test")
                if test is not None:
                    means = {side: test[side]["mean"] for side in ("before", "after")}
                    figures = {"test_reward_before": means["before"], "test_reward_after": means["after"]}
                    self._report(max(self._run.validated_steps()), figures)

    def _report(self, step: int, figures: Mapping[str, Any], samples: Sequence[Sample] = ()) -> None:
        numbers = {name: float(value) for name, value in figures.items() if value is not None}
        for tracker in [*self._trackers]:
            try:
                tracker.log(step, numbers, samples)
            except Exception as error:
                self._trackers.remove(tracker)
                said = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
                self._on_event(Note(f"{tracker.name} gets no more figures: {said}", "warning", step))


def _validated(event: Validated, samples: Sequence[Sample]) -> dict[str, float | None]:
    """The reward with its interval and each component, of one validation."""
    found: dict[str, float | None] = {
        "eval_reward": event.mean,
        "eval_reward_low": event.low,
        "eval_reward_high": event.high,
    }
    for name in component_names(samples):
        means = row_means(samples, name).values()
        found[f"eval_reward/{name}"] = sum(means) / len(means)
    found["eval_completion_tokens"] = sum(s.tokens for s in samples) / len(samples)
    found["eval_truncated"] = sum(s.truncated for s in samples) / len(samples)
    return found


class _Tracker:
    """One tracker, begun; a run that is resumed goes on in the tracker where it stopped.

    `name` is one of `config.trackers.TRACKERS`.
    """

    def __init__(self, name: str, config: RunConfig, run: Run) -> None:
        self.name = name
        self._run = run
        done = max(run.checkpoints(), default=0)
        # mlflow refuses a setting that changes, such as the epochs of a run that is made longer
        kept = {} if name == "mlflow" and run.info.get("mlflow_run") else flat(with_absolute_paths(config))
        settings = {key: value for key, value in kept.items() if value is not None}
        self._arguments = _Arguments(run, settings)
        if name == "trackio":
            # it continues what has the same name
            self._arguments.run_name += f"-{_identity(run)[:4]}"
        try:
            self._callback = self._opened(done)
            self._call("on_train_begin", done)
        except Exception as error:
            said = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
            raise UsageError(
                f"report_to: {name} can't be started: {said}",
                f"set {name} up as its documentation says, or leave it out of report_to",
            ) from error
        if name == "mlflow":
            run.update(mlflow_run=self._callback._ml_flow.active_run().info.run_id)

    def _opened(self, done: int) -> Any:
        """transformers' callback; the variables that it reads are set where the user has not set them."""
        run, identity = self._run, _identity(self._run)
        variables: dict[str, str] = {
            "tensorboard": {},
            "trackio": {},
            "wandb": {
                "WANDB_PROJECT": PROJECT,
                "WANDB_DIR": str(run.path),
                "WANDB_RUN_ID": identity,
                "WANDB_RESUME": "allow",
                "WANDB_SILENT": "true",
            },
            "mlflow": {"MLFLOW_EXPERIMENT_NAME": PROJECT},
        }[self.name]
        if self.name == "mlflow" and run.info.get("mlflow_run"):
            variables["MLFLOW_RUN_ID"] = str(run.info["mlflow_run"])
        for key, value in variables.items():
            os.environ.setdefault(key, value)
        make: Callable[..., Any] = getattr(integration_utils, _CALLBACKS[self.name])
        if self.name != "tensorboard":
            return make()
        from torch.utils.tensorboard import SummaryWriter

        # what was written after the checkpoint is not part of the run any more
        return make(SummaryWriter(str(run.path / "tensorboard"), purge_step=done + 1 if done else None))

    def where(self) -> str:
        """Where to look at the run."""
        if self.name == "tensorboard":
            return f"tensorboard --logdir {self._run.path.parent}"
        if self.name == "wandb":
            wandb = self._callback._wandb
            return str(wandb.run.url or f"offline; wandb sync {wandb.run.dir.removesuffix('/files')}")
        if self.name == "mlflow":
            return str(self._callback._ml_flow.get_tracking_uri())
        return f"trackio show --project {self._arguments.project}, run {self._arguments.run_name}"

    def log(self, step: int, figures: Mapping[str, float], samples: Sequence[Sample]) -> None:
        """Report the figures of a step, and a table of the samples where the tracker has tables."""
        logs = dict(figures)
        if self.name == "mlflow":
            # a name can't begin with another name and a slash where mlflow keeps runs as files
            logs = {key.replace("/", "."): value for key, value in logs.items()}
        self._call("on_log", step, logs=logs)
        if samples:
            log_table(self.name, step, samples)

    def close(self) -> None:
        """Write what is left and end; the run's own files are whole whatever happens here."""
        with contextlib.suppress(Exception):
            self._call("on_train_end", 0)
            if self.name == "wandb":
                self._callback._wandb.finish(quiet=True)

    def _call(self, method: str, step: int, **more: Any) -> None:
        state = SimpleNamespace(
            global_step=step,
            is_world_process_zero=True,
            is_hyper_param_search=False,
            trial_name=None,
            logging_steps=1,
        )
        # standard error is for the job's own lines
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            getattr(self._callback, method)(self._arguments, state, None, model=None, **more)


class _Arguments:
    """What the integrations read of transformers' TrainingArguments; the settings are rft's."""

    def __init__(self, run: Run, settings: dict[str, Any]) -> None:
        self.output_dir = str(run.path)
        self.run_name = run.path.name
        self.project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        # nothing is copied to a Space of the hub
        self.trackio_static_space_id = False
        self._settings = settings

    def to_dict(self) -> dict[str, Any]:
        """The settings by their dotted keys, as JSON values."""
        return cast(dict[str, Any], json.loads(json.dumps(self._settings, default=str)))

    def to_json_string(self) -> str:
        return json.dumps(self._settings, indent=2, default=str)

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


def _identity(run: Run) -> str:
    """An id that this run alone has, the same whenever it is resumed, wherever it lies."""
    return sha256(f"{run.info.get('created')} {run.info.get('name')}".encode()).hexdigest()[:12]
