"""`palimpsest queues --watch` over a served gateway."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from contextlib import suppress

import pytest

from tests.support.cli import COMMAND
from tests.support.gateway import GatewayProcess, ManualWorker

pytestmark = pytest.mark.slow


def test_one_line_of_json_for_each_look(gateway: GatewayProcess, worker: ManualWorker) -> None:
    process = subprocess.Popen(
        [*COMMAND, "queues", "--watch", "--json", "--interval", "0.2"],
        env=gateway.make_client_env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(3)]
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "")
    assert lines[0]["at"] < lines[1]["at"] < lines[2]["at"]
    queues = {q["stage"]: q for q in lines[2]["queues"]}
    assert queues["train"]["workers"] == 1
    assert queues["train"]["rate_per_s"] == 0.0
    assert queues["train"]["wait_s"] == 0.0


def test_a_terminal_is_left_as_it_was(gateway: GatewayProcess, worker: ManualWorker) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "queues", "--watch", "--interval", "0.2"],
        env={**gateway.make_client_env(), "TERM": "xterm", "COLUMNS": "40", "LINES": "30"},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    screen = b""
    while screen.count(b"pretrain") < 3:  # it is drawn again and again
        screen += os.read(leader, 4096)
    process.send_signal(signal.SIGINT)
    with suppress(OSError):  # the terminal is gone with its last user
        while piece := os.read(leader, 4096):
            screen += piece
    assert process.wait(60) == 130
    os.close(leader)
    assert screen.rindex(b"\x1b[?25h") > screen.rindex(b"\x1b[?25l")  # the cursor is there again
    assert b"Traceback" not in screen
    assert b"Aborted" not in screen
