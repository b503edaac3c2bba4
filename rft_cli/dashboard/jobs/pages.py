"""The pages on which jobs are started, watched until they have a run, stopped and resumed."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from rft_cli.dashboard.context import NoSuchRun, context_of, entries_of, open_named, open_run, read_form
from rft_cli.dashboard.jobs.check import Checked, FieldProblem, check
from rft_cli.dashboard.jobs.command import shown
from rft_cli.dashboard.jobs.files import list_files
from rft_cli.dashboard.jobs.form import MODELS, fields, read_values, sections
from rft_cli.dashboard.jobs.jobs import StartedJob, jobs_of
from rft_cli.dashboard.jobs.like import values_like
from rft_cli.dashboard.rendering import page, unchanged
from rft_cli.dashboard.state import digest
from rft_cli.errors import RftError, UsageError

FORM_TOKEN = "form_token"
LOG_S = 1.0
"""Seconds between two questions of an open page with a job's output."""


def show_form(request: Request) -> Response:
    """The form: empty, as it was sent for the job that `?job=` names, or as for the run that `?like=` names."""
    asked, jobs = request.query_params, jobs_of(request)
    if "like" in asked:
        settings = open_run(context_of(request).folder, asked["like"]).info.get("settings") or {}
        return _form(request, values_like(settings, jobs.folder))
    job = jobs.find(asked.get("job", ""))
    return _form(request, {} if job is None else job.record.values)


async def send_form(request: Request) -> Response:
    """Check what the form says and, where `do` is start and nothing is wrong, start the job."""
    sent = await _read(request)
    jobs, values = jobs_of(request), read_values(sent)
    checked = await check(jobs.arguments(values), values, jobs.folder)
    if checked.ok and sent.get("do") == "start":
        try:
            return _to(f"/jobs/{quote(await run_in_threadpool(jobs.start, values))}")
        except UsageError as error:
            checked.add("name", FieldProblem(error.message, error.fix or ""))
        except RftError as error:
            checked.add("", FieldProblem(error.message, error.fix or ""))
    return await run_in_threadpool(_form, request, values, checked)


async def show_command(request: Request) -> Response:
    """The command line of what the form says now."""
    values = read_values(await _read(request))
    return JSONResponse({"command": shown(jobs_of(request).arguments(values))})


def show_files(request: Request) -> Response:
    """The files of one folder, for the picker of one field."""
    field = fields().get(request.query_params.get("field", ""))
    if field is None:
        raise HTTPException(404)
    at = request.query_params.get("at", "")
    try:
        found = list_files(jobs_of(request).folder, at, field.endings)
    except UsageError as error:
        return JSONResponse({"error": error.message}, status_code=404)
    files = [] if field.kind == "model" else found.files
    return JSONResponse(
        {"at": found.at, "folders": found.folders, "files": files, "left_out": found.left_out}
    )


def show_job(request: Request) -> Response:
    """A job that was started here: its command, whether it runs, its output."""
    job = _job(request)
    etag = digest(["job", job])
    return unchanged(request, etag) or page(
        request, "job_log.html", title=job.record.name, etag=etag, every=LOG_S, job=job
    )


async def stop_job(request: Request) -> Response:
    """Stop a job that writes no run yet."""
    await _read(request)
    job = await run_in_threadpool(_job, request)
    await run_in_threadpool(jobs_of(request).stop_start, job.record.name)
    return _to(f"/jobs/{quote(job.record.name)}")


async def stop_run(request: Request) -> Response:
    """Ask the process that writes the run to end, after a checkpoint or, the second time, at once."""
    sent = await _read(request)
    await run_in_threadpool(jobs_of(request).stop, open_named(request).path, sent.get("do") == "now")
    return _to(f"/runs/{quote(request.path_params['name'])}")


async def resume_run(request: Request) -> Response:
    """Resume the run in a process of its own."""
    await _read(request)
    run = open_named(request)
    await run_in_threadpool(jobs_of(request).resume, run.path)
    return _to(f"/runs/{quote(run.path.name)}")


def _form(request: Request, values: Mapping[str, str], checked: Checked | None = None) -> Response:
    jobs = jobs_of(request)
    runs = [entry.name for entry in entries_of(request) if entry.best_step > 0]
    return page(
        request,
        "start.html",
        title="Start a job",
        status=200 if checked is None or checked.ok else 400,
        sections=sections(),
        fields=fields(),
        values=values,
        checked=checked,
        command=shown(jobs.arguments(values)),
        models=[*MODELS, *runs],
        works_in=str(jobs.folder),
    )


def _job(request: Request) -> StartedJob:
    name = request.path_params["name"]
    job = jobs_of(request).find(name)
    if job is None:
        raise NoSuchRun(f"no job {name!r} was started from this folder's dashboard", "see the list of runs")
    return job


async def _read(request: Request) -> dict[str, str]:
    """The fields of a form of this dashboard; one without its token is refused."""
    sent = await read_form(request)
    if not secrets.compare_digest(sent.get(FORM_TOKEN, "").encode(), jobs_of(request).form_token.encode()):
        raise HTTPException(403, "this form is not from a page of this dashboard: load the page again")
    return sent


def _to(address: str) -> Response:
    return RedirectResponse(address, status_code=303)


ROUTES: list[BaseRoute] = [
    Route("/start", show_form),
    Route("/start", send_form, methods=["POST"]),
    Route("/start/command", show_command, methods=["POST"]),
    Route("/start/files", show_files),
    Route("/jobs/{name}", show_job),
    Route("/jobs/{name}/stop", stop_job, methods=["POST"]),
    Route("/runs/{name}/stop", stop_run, methods=["POST"]),
    Route("/runs/{name}/resume", resume_run, methods=["POST"]),
]
