"""`microgpt train` and `microgpt resume`: how a run begins, and how it goes on."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import microgpt
from microgpt import Config, InputError, Snapshot

import numpy as np
from rich.console import Console

from microgpt_lab.base import files, options
from microgpt_lab.runs import checkpoints, documents, run_folder
from microgpt_lab.runs.checkpoints import Checkpoint, RunPlan
from microgpt_lab.runs.run_folder import Run
from microgpt_lab.runs.training import TrainingSession, TrainingSettings

Chosen = tuple[str | None, str | None, tuple[str, ...]]  # --dtype, --device, each --option
# These numbers belong to the weights; with --from they are those of the run.
OF_WEIGHTS = (
    "n_embd", "n_head", "n_layer", "block_size", "relu_power", "init_std", "zero_init",
)  # fmt: skip


# ---------------------------------------------------------------- Train


@dataclass(frozen=True)
class NewRun:
    """What `train` was asked for."""

    version: str
    recipe: str | None
    numbers: dict[str, Any]  # replace those of the recipe; None: not given
    seed: int
    data: str
    held_out: float
    chosen: Chosen
    out: Path | None
    source: Path | None = None  # begin with the weights of this run or checkpoint


def train(asked: NewRun, settings: TrainingSettings, console: Console) -> int:
    """Start a run. -> exit status. Raises InputError."""
    run_folder.refuse_taken(asked.out)
    version, module = options.runnable(asked.version)
    source = run_folder.load(asked.source) if asked.source else None
    recipe = source.plan.recipe if source else asked.recipe or version.recipe
    config = numbers_from(source, asked) if source else options.recipe(recipe, asked.numbers)
    refuse_beyond(settings.until, config.steps, "--steps makes it longer")
    given = options.for_create(version, module, *asked.chosen)
    letters = source.plan.letters if source else ""
    docs = documents.prepare(config, asked.data, asked.seed, asked.held_out, letters=letters)
    plan = RunPlan(
        recipe, config, asked.seed, documents.lasting_name(asked.data), docs.digest,
        "".join(docs.tokenizer.letters), asked.held_out,
    )  # fmt: skip
    if source:
        snapshot = without_moments(source.snapshot)
        checkpoint = Checkpoint(plan, snapshot, docs.rng.getstate(), version.name, options=given)
    else:
        checkpoint = checkpoints.before_first_step(plan, docs.rng, version.name, options=given)
    state = module.create(config, checkpoint.snapshot, **given)
    checkpoint = replace(checkpoint, about=module.about(state))
    origin = {"from": {"path": str(asked.source), "step": source.step}} if source else {}
    with run_folder.create(asked.out, checkpoint, origin) as run:
        session = TrainingSession(run, checkpoint, module, state, docs, settings, console)
        session.show_header()
        if source:
            said = f"begins with the weights of {asked.source} after step {source.step:,}"
            console.print(f"{said}; moments and schedule begin anew", soft_wrap=True)
        return session.work()


def numbers_from(source: Checkpoint, asked: NewRun) -> Config:
    """The numbers of a run that begins with another's weights: the other's, of which those of
    training may be replaced. Raises InputError."""
    if asked.recipe is not None:
        raise InputError("--from has the run's recipe: leave --recipe out, give single numbers")
    given = {name: value for name, value in asked.numbers.items() if value is not None}
    for name in OF_WEIGHTS:
        its = getattr(source.plan.config, name)
        if given.get(name, its) != its:
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{name} is {given[name]}: --from has it as {its}, leave {flag} out")
    return replace(source.plan.config, **given)


def without_moments(snapshot: Snapshot) -> Snapshot:
    """The same weights before the first step of another run."""
    zeros = {name: np.zeros_like(rows) for name, rows in snapshot.weights.items()}
    return Snapshot(snapshot.weights, zeros, zeros, 0)


def refuse_beyond(until: int | None, steps: int, what: str) -> None:
    """Raises InputError if --until is after the last step."""
    if until is not None and until > steps:
        raise InputError(f"until is {until}: the run has {steps:,} steps; {what}")


# ---------------------------------------------------------------- Resume


def resume(
    path: Path | None,
    with_version: str | None,
    chosen: Chosen,
    settings: TrainingSettings,
    console: Console,
    data: str | None = None,
) -> int:
    """Continue a run from its last checkpoint; None is the newest run. `data`: where its documents
    are now. -> exit status. Raises InputError."""
    with run_folder.open_stopped(path) as run:
        checkpoint = run_folder.last_checkpoint(run.path)
        steps, until = checkpoint.plan.config.steps, settings.until
        if checkpoint.step < steps:
            refuse_beyond(until, steps, "when it has them all, resume --until makes it longer")
        elif (until is None or until <= steps) and run.is_finished:
            show_finished(run, checkpoint, console)
            return 0
        version, module = options.runnable(with_version or checkpoint.version)
        plan = moved(checkpoint.plan, data)
        docs = documents.prepare(plan.config, plan.data, plan.seed, plan.held_out, plan.digest)
        given = options.carried_over(version, module, checkpoint.options)
        given |= options.for_create(version, module, *chosen)
        longer = until is not None and until > steps
        if longer:
            plan = replace(plan, config=replace(plan.config, steps=until))
        checkpoint = replace(checkpoint, plan=plan, options=given)
        state = module.create(plan.config, checkpoint.snapshot, **given)
        checkpoint = replace(checkpoint, version=version.name, about=module.about(state))
        if note := run.rewind(checkpoint.step):
            console.print(note, soft_wrap=True)
        if longer:
            lengthen(run, checkpoint, console)
        begins = {"version": version.name, "about": checkpoint.about}
        run.write_records([{"step": checkpoint.step, **begins}])
        session = TrainingSession(run, checkpoint, module, state, docs, settings, console)
        losses = (r["loss"] for r in run_folder.read_log(run.path) if "loss" in r)
        session.progress.recent.extend(losses)
        session.show_header()
        return session.work()


def show_finished(run: Run, checkpoint: Checkpoint, console: Console) -> None:
    console.print(
        f"{run.path} has all its {checkpoint.step:,} steps; for more names: microgpt sample "
        f"{run.path}; for more steps: microgpt resume {run.path} --until STEP",
        soft_wrap=True,
    )


def moved(plan: RunPlan, data: str | None) -> RunPlan:
    """The plan with another place of the same documents."""
    return plan if data is None else replace(plan, data=documents.lasting_name(data))


def lengthen(run: Run, longer: Checkpoint, console: Console) -> None:
    """Make a finished run longer: `longer` is its last checkpoint, with more steps in its plan.
    Raises InputError."""
    step, config = longer.step, longer.plan.config
    if run.is_finished:  # no longer, whatever happens next
        names = run.path / "names.txt"
        with files.failing_plainly(names, "rename"):
            names.rename(run.path / f"names-{step:06}.txt")
    checkpoints.write_checkpoint(run_folder.checkpoint_path(run.path, step), longer)
    record = run_folder.read_settings(run.path)
    if record:
        record["config"] = record.get("config", {}) | {"steps": config.steps}
        files.write(run.path / "run.json", json.dumps(record, indent=1) + "\n")
    run.write_records([{"step": step, "steps": config.steps}])
    rate = microgpt.learning_rate(config, step)
    console.print(
        f"lengthened from {step:,} to {config.steps:,} steps, with the schedule of a run of "
        f"{config.steps:,} steps: the learning rate, which had fallen to zero, goes on at "
        f"{rate:.2g}",
        soft_wrap=True,
    )
