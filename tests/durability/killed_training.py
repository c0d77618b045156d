"""A small training that records every step, and a server that runs it in children which it kills.

Not a test: test_kill.py starts it as `python killed_training.py`. torch is imported once; each child is a
fork. Requests and answers are lines of JSON.
"""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback

os.environ["RELUSCOPE_KERNELS"] = "reference"  # no compiling in two hundred processes

import torch
import torch._dynamo  # optimizers import it at their first step, which takes a second

import reluscope as rs
from reluscope.runs import parts, scalars

NUM_STEPS = 40

# Small parts, so that the last part is given up for a new one again and again.
parts.PartLimits = functools.partial(parts.PartLimits, max_steps=7)
scalars._LIMITS = parts.PartLimits(max_steps=11)
scalars._FLUSH_S = 0.005


def train(folder: str, acknowledge, *, back: int) -> None:
    """Record every step of a training that always goes the same way.

    A run that is there is resumed `back` steps before its last measurement, as from a checkpoint there.
    """
    torch.manual_seed(0)
    inputs, labels = torch.randn(24, 6), torch.arange(24) % 3
    layers = [torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(8, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    recorder = rs.Recorder(
        model,
        rs.Probe(inputs, labels, batch_size=24),
        run=folder,
        schedule=rs.every(1),
        instruments=[rs.Patterns(keep=("init", "final", "all"))],
        if_exists="resume",
        on_error="raise",
    )
    recorded = rs.open_run(folder).steps
    first = max(0, recorded[-1] - back) if recorded else 0
    with recorder:
        for step in range(NUM_STEPS):
            if step >= first:
                recorder.record(step)
                acknowledge(step)
            loss = torch.nn.functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step >= first:
                recorder.log(step, loss=loss, lr=0.2, batch_indices=range(step % 4))
        recorder.record(NUM_STEPS)
        acknowledge(NUM_STEPS)


def child(folder: str, back: int, pipe: int) -> None:
    try:
        train(folder, lambda step: os.write(pipe, f"{step}\n".encode()), back=back)
        os.write(pipe, b"done\n")
    except BaseException:
        os.write(pipe, ("error\n" + traceback.format_exc()).encode())
    finally:
        os._exit(0)


def serve(request: dict) -> dict:
    """Run a child; kill it `delay` seconds (None: never) after `after` acknowledged steps (0: its start).

    The answer holds what it acknowledged, and the seconds to the first and between the others.
    """
    reading, writing = os.pipe()
    started = time.monotonic()
    process = os.fork()
    if process == 0:
        child(request["folder"], request["back"], writing)
    os.close(writing)
    deadline, said, moments = None, b"", [started]
    while True:
        if len(moments) > request["after"] and request["delay"] is not None and deadline is None:
            deadline = moments[request["after"]] + request["delay"]
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([reading], [], [], patience)
        if not ready:
            os.kill(process, signal.SIGKILL)
            break
        piece = os.read(reading, 65536)
        if not piece:
            break
        said += piece
        moments += [time.monotonic()] * piece.count(b"\n")
    _, status = os.waitpid(process, 0)
    while piece := os.read(reading, 65536):  # acknowledged, and then killed
        said += piece
    os.close(reading)
    steps, _, error = said.decode().partition("error\n")
    words = steps.split()
    return {
        "acknowledged": [int(word) for word in words if word != "done"],
        "killed": os.WIFSIGNALED(status),
        "done": "done" in words,
        "error": error,
        "first_s": moments[min(1, len(moments) - 1)] - started,
        "step_s": (moments[-1] - moments[min(1, len(moments) - 1)]) / max(1, len(moments) - 2),
    }


def main() -> None:
    torch.set_num_threads(1)
    # Everything that is imported at first use is imported here, once.
    with tempfile.TemporaryDirectory() as folder:
        model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU())
        probe = rs.Probe(torch.randn(4, 6), torch.arange(4) % 3)
        with rs.Recorder(model, probe, folder, schedule=rs.every(1)) as recorder:
            recorder.record(0)
            recorder.record(1)
        assert rs.open_run(folder).layers["step"].tolist() == [0, 1]
    print(json.dumps({"ready": os.getpid()}), flush=True)  # noqa: T201
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
