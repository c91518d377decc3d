"""drain and undrain of workers."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from services.cli.output.console import (
    FAILED,
    INTERRUPTED,
    Json,
    escape_unprintable,
    make_client,
    print_json,
    print_note,
)
from services.client import Client

RETRY_FOR_S = 60.0  # how long to wait for a gateway that is restarting
POLL_S = 1.0  # between two looks at the workers

WorkerIds = Annotated[
    list[str],
    typer.Argument(metavar="WORKER...", help="Workers; see `palimpsest workers`."),
]


def drain(
    workers: WorkerIds,
    wait: Annotated[
        bool, typer.Option(help="Wait until they are idle. Ctrl-C only stops waiting.")
    ] = False,
    json: Json = False,
) -> None:
    """Drain workers: each returns its job and takes no other until it is undrained, even if it is
    restarted."""
    with make_client(RETRY_FOR_S) as gateway:
        answers = [gateway.drain_worker(worker) for worker in workers]
        if wait:
            answers = _wait_until_idle(gateway, answers, json)
    if json:
        print_json(answers)
    elif not wait:
        for answer in answers:
            print_note(_describe(answer))
    if wait and any(not answer["drain"] for answer in answers):  # undrained meanwhile
        raise typer.Exit(FAILED)


def undrain(workers: WorkerIds, json: Json = False) -> None:
    """Let drained workers take jobs again."""
    with make_client() as gateway:
        answers = [gateway.undrain_worker(worker) for worker in workers]
    if json:
        print_json(answers)
        return
    for answer in answers:
        name = escape_unprintable(answer["id"])
        print_note(f"{name} is shutting down" if answer["drain"] else f"{name} takes jobs again")


def _wait_until_idle(
    gateway: Client, answers: list[dict[str, Any]], json: bool
) -> list[dict[str, Any]]:
    """Follow workers until none has a job, or is undrained; prints what changes."""
    shown: dict[str, str] = {}
    try:
        while True:
            for answer in answers:
                text = _describe(answer)
                if not json and shown.get(answer["id"]) != text:
                    print_note(text)
                shown[answer["id"]] = text
            # the job of a worker that has died goes back by itself when its lease ends
            if not any(a["job"] and a["drain"] and a["live"] for a in answers):
                return answers
            time.sleep(POLL_S)
            seen = {worker["id"]: worker for worker in gateway.list_workers()}
            gone = {"live": False, "drain": True, "job": None, "drained_at": None}
            answers = [
                {name: seen.get(a["id"], {**gone, "id": a["id"]})[name] for name in a}
                for a in answers
            ]
    except KeyboardInterrupt:
        print_note("They stay drained. To let them take jobs: palimpsest undrain WORKER...")
        raise typer.Exit(INTERRUPTED) from None


def _describe(answer: dict[str, Any]) -> str:
    name = escape_unprintable(answer["id"])
    if not answer["live"]:
        return f"{name} is not running"
    return f"{name} is returning {answer['job']}" if answer["job"] else f"{name} is drained"
