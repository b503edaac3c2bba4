"""Runs llama.cpp's server out of the wheel xllamacpp, with the flags of `llama-server` that rft uses.

`python -m rft_cli.serving.llama_wheel --model FILE --port N`, until a signal ends it. OMP_NUM_THREADS limits its
threads, as it does those of torch.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

import xllamacpp

SLOTS = 4
"""Prompts answered at once, as `llama-server` does by itself; they share one cache."""


def main(arguments: Sequence[str]) -> int:
    """1 where the model can't be loaded; else it runs until a signal ends the process."""
    flags = _flags().parse_args(arguments)
    # Before the server starts threads: they inherit that these signals wait.
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        server = xllamacpp.Server(_parameters(flags))
    except RuntimeError:
        print(f"llama.cpp can't load {flags.model}", file=sys.stderr)
        return 1
    print(f"listening on {server.listening_address}", flush=True)
    number = signal.sigwait(ends)
    # Without the server's own end, which waits for completions under way.
    os._exit(128 + number)


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama_wheel", allow_abbrev=False)
    parser.add_argument("--model", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--alias")
    # The chat template of the file, which this server always takes.
    parser.add_argument("--jinja", action="store_true")
    return parser


def _parameters(flags: argparse.Namespace) -> xllamacpp.CommonParams:
    found = xllamacpp.CommonParams()
    found.model.path = flags.model
    found.hostnames = [flags.host]
    found.port = flags.port
    found.n_parallel = SLOTS
    found.kv_unified = True
    found.use_jinja = True
    if flags.alias is not None:
        found.model_alias = {flags.alias}
    threads = os.environ.get("OMP_NUM_THREADS", "")
    if threads.isdigit() and int(threads) > 0:
        found.cpuparams.n_threads = found.cpuparams_batch.n_threads = int(threads)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
