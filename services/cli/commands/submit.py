"""submit, and a command per stage: the same command with the stage filled in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer

from services.cli import completion
from services.cli.input.params import parse_inputs, parse_params
from services.cli.output.console import Json, make_client, print_json, print_note
from services.cli.output.dry_run import DryRunOption, print_dry_run
from services.cli.output.progress import follow
from services.cli.signatures import list_parameters, make_command, make_parameter

WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Follow it until it ends.")]

# stage -> help of its command, and the kind of its methods if it has any
STAGE_COMMANDS: dict[str, tuple[str, str | None]] = {
    "pretrain": ("Train the base model on data that is never deleted.", None),
    "train": ("Continue training on the samples that may be deleted.", None),
    "unlearn": ("Unlearn samples from the original model.", "unlearning"),
    "defend": ("Apply a defense to the unlearned models before their release.", "defense"),
    "probe": ("Build the query inputs of black-box attacks.", None),
    "candidates": ("Build the candidate sets of membership attacks.", None),
    "shadow": ("Run shadow deletions, for the p-values of label attacks.", None),
    "retraining": ("Retrain without each forget set, with several seeds.", None),
    "forgetting": ("Measure whether unlearned models have forgotten.", None),
    "attack": ("Reconstruct or infer what was deleted.", "attack"),
    "evaluate": ("Score an attack against its baselines.", None),
    "selftest": ("Run the built-in self-test on the workers' code.", None),
}


def submit(
    stage: Annotated[
        str,
        typer.Argument(
            help="Stage; see `palimpsest catalog stage`.",
            autocompletion=completion.complete_plugins("stage"),
        ),
    ],
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            "-m",
            help="Method, for stages that have methods.",
            autocompletion=completion.complete_methods,
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", "-p", metavar="NAME=VALUE", help="A parameter; may be repeated."),
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="ROLE=JOB",
            help="Where an input comes from: a job (or JOB:ROLE, if its role differs there) or "
            "an artifact's sha256; may be repeated.",
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="JOB",
            help="Take the remaining inputs from this job or its ancestors.",
            autocompletion=completion.complete_jobs,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Random seed. Default: the seed of the job in --from, otherwise 0."),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Run it even if an identical job has finished.")
    ] = False,
    priority: Annotated[
        int | None, typer.Option(help="Jobs with a higher priority run first.")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="Time limit of each attempt, in seconds.")
    ] = None,
    dry_run: DryRunOption = False,
    watch: WatchOption = False,
    json: Json = False,
) -> None:
    """Submit a single job of any stage."""
    params, inputs = parse_params(param or ()), parse_inputs(sources or ())
    options: dict[str, Any] = {
        "method": method,
        "params": params,
        "inputs": inputs,
        "source": source,
        "seed": seed,
        "no_cache": no_cache,
        "priority": priority,
        "time_limit": time_limit,
    }
    with make_client() as gateway:
        if dry_run:
            print_dry_run(gateway.dry_run_job(stage, **options), json)
            return
        job = gateway.submit_job(stage, **options)
    if not (watch and json):
        if json:
            print_json(job.raw)
        else:
            typer.echo(job.id)
            if source is not None:
                inherited = (
                    f"{role} from {s['job']}" for role, s in job.inputs.items() if "job" in s
                )
                print_note(", ".join(inherited))
            print_note(
                "submitted" if job.created else f"identical job found ({job.state}); reusing it"
            )
    if watch:
        raise typer.Exit(follow([job.id], json))
    if not json:
        print_note(f"To follow it: palimpsest watch {job.id}")


def make_stage_command(stage: str) -> Callable[..., None]:
    """`submit` for one stage; the method, if the stage has any, is its argument."""
    help_text, methods = STAGE_COMMANDS[stage]
    params = [p for p in list_parameters(submit) if p.name not in ("stage", "method")]
    if methods is not None:
        argument = typer.Argument(
            help=f"Method; see `palimpsest catalog {methods}`.",
            autocompletion=completion.complete_plugins(methods),
        )
        params.append(make_parameter("method", Annotated[str, argument]))
    return make_command(partial(submit, stage), stage, help_text, params)
