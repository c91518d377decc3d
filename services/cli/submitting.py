"""submit, and a verb for each stage that is run by hand: the same command with the stage filled in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from services.cli import completing, reading
from services.cli.commands import command, parameter, parameters
from services.cli.following import follow
from services.cli.output import Json, as_json, client, say

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end.")]

# stage -> what its verb says of itself, and the kind of its methods if it has any
STAGES: dict[str, tuple[str, str | None]] = {
    "pretrain": ("Train the base model on data that nobody asks to forget.", None),
    "train": ("Train the base model on the samples that may be forgotten.", None),
    "unlearn": ("Make the original model forget.", "unlearning"),
    "defend": ("Change unlearned models before they are released.", "defense"),
    "probe": ("Ask the models, for attacks that only see answers.", None),
    "candidates": ("Line up candidates, for attacks that ask who was forgotten.", None),
    "shadow": ("Make deletions again on other samples: the null of p-values for label attacks.", None),
    "attack": ("Read back what was forgotten.", "attack"),
    "evaluate": ("Score an attack beside what an attacker gets who rebuilds nothing.", None),
    "selftest": ("Hold the code that the workers run against cases whose answer is known.", None),
}


def submit(
    stage: Annotated[
        str,
        typer.Argument(help="Stage, as in `palimpsest catalog stage`.", autocompletion=completing.plugins("stage")),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            "--method", "-m", help="Which one, for stages that have methods.", autocompletion=completing.methods
        ),
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter; may be repeated.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--input", "-i", metavar="ROLE=JOB", help="An input: a job, JOB:ROLE, or a sha256; may be repeated."
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="JOB",
            help="Take every input that is not given from this job, or from what it was made of.",
            autocompletion=completing.jobs,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="All the job's randomness; 0 if left out, or that of --from.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run it even if the same work was done before.")] = False,
    priority: Annotated[int | None, typer.Option(help="Higher goes first.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds that one attempt may run.")] = None,
    watch: Watch = False,
    json: Json = False,
) -> None:
    """Submit one job: any stage by hand."""
    params, inputs = reading.params(param or ()), reading.inputs(given or ())
    with client() as gateway:
        job = gateway.submit_job(
            stage,
            method=method,
            params=params,
            inputs=inputs,
            source=source,
            seed=seed,
            fresh=fresh,
            priority=priority,
            time_limit=time_limit,
        )
    if not (watch and json):
        if json:
            as_json(job.raw)
        else:
            typer.echo(job.id)
            if source is not None:
                taken = (f"{role} from {s['job']}" for role, s in job.inputs.items() if "job" in s)
                say(", ".join(taken))
            say(
                "submitted" if job.created else f"an equal job is there already ({job.state}): shared, nothing new runs"
            )
    if watch:
        raise typer.Exit(follow([job.id], json))
    if not json:
        say(f"follow it with: palimpsest watch {job.id}")


def verb(stage: str) -> Callable[..., None]:
    """`submit` for one stage; where the stage has methods, the method is its argument."""
    about, methods = STAGES[stage]
    takes = [p for p in parameters(submit) if p.name not in ("stage", "method")]
    if methods is not None:
        argument = typer.Argument(
            help=f"Which one, as in `palimpsest catalog {methods}`.", autocompletion=completing.plugins(methods)
        )
        takes.append(parameter("method", Annotated[str, argument]))
    return command(partial(submit, stage), stage, about, takes)
