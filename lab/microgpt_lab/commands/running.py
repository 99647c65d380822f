"""The commands that train a version, and those that use what was trained."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from microgpt import OPTIONS, InputError

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.arguments import (
    Data,
    FrameworkOptions,
    Numbers,
    Recipe,
    RecipeNumbers,
    Seed,
    at_least,
    flag,
    given_numbers,
    sentence,
)


@dataclass
class SavingOptions:
    """When to stop and what to keep."""

    until: Annotated[int | None, flag("STEP", "the last step")] = None
    """Stop after this step, with a checkpoint; microgpt resume continues. Beyond the last step of a
    finished run: make it longer."""
    save_every: Annotated[int | None, flag("STEPS", "a tenth of the run, at most 1000")] = None
    """Steps from one checkpoint to the next."""
    keep: int = 100
    """Checkpoints to keep. Beyond that number, those closest to their neighbours are deleted."""
    evaluate: int = 1000
    """Held-out names for the loss at the end, the same each time; 0: all."""
    samples: int = 20
    """Names to make up."""

    def settings(self) -> Any:
        from microgpt_lab.runs.training import TrainingSettings

        return TrainingSettings(self.until, self.save_every, self.keep, self.evaluate, self.samples)


@dataclass
class Train:
    """Train a version: log, checkpoints, names and a plot in one folder."""

    version: Annotated[Positional[str], flag("VERSION")]
    """Name of its folder, its number, or the beginning of its name."""
    recipe: Annotated[str | None, flag("{seed,gist,scaled}", "the version's, mostly seed")] = None
    """Set of numbers to start from."""
    seed: Seed = 42
    data: Data = "names"
    held_out: float = 0.1
    """Share of the distinct documents that are held out; 0: none, as in the programs."""
    out: Annotated[Path | None, flag("FOLDER", "runs/<date>-<version>-<recipe>-<seed>")] = None
    """Folder of the run; must not exist."""
    from_: Annotated[Path | None, flag("RUN|CHECKPOINT", "none", name="from")] = None
    """Begin with the weights of this run, to fine-tune them on other data."""
    saving: OmitArgPrefixes[SavingOptions] = field(default_factory=SavingOptions)
    framework: OmitArgPrefixes[FrameworkOptions] = field(default_factory=FrameworkOptions)
    numbers: RecipeNumbers = field(default_factory=Numbers)

    def run(self) -> int:
        from microgpt_lab.runs import starting

        asked = starting.NewRun(
            self.version, self.recipe, given_numbers(self.numbers), self.seed, self.data,
            self.held_out, self.framework.chosen, self.out, self.from_,
        )  # fmt: skip
        return starting.train(asked, self.saving.settings(), plain_console())


@dataclass
class Resume:
    """Continue a stopped run, in the same version or in another one."""

    path: Annotated[Positional[Path | None], flag("[RUN]", "the newest in runs/")] = None
    """Folder of the run."""
    with_: Annotated[str | None, flag("VERSION", "the one that stopped", name="with")] = None
    """Version that takes the next steps."""
    data: Annotated[str | None, flag("DATA", "where they were")] = None
    """Where the run's documents are now: the same ones, in another file."""
    saving: OmitArgPrefixes[SavingOptions] = field(default_factory=SavingOptions)
    framework: OmitArgPrefixes[FrameworkOptions] = field(default_factory=FrameworkOptions)

    def run(self) -> int:
        from microgpt_lab.runs import starting

        return starting.resume(
            self.path, self.with_, self.framework.chosen, self.saving.settings(),
            plain_console(), self.data,
        )  # fmt: skip


@dataclass
class Compare:
    """Train versions with one seed, side by side: losses, names, costs."""

    versions: Annotated[Positional[tuple[str, ...]], flag("[VERSION ...]", "all")] = ()
    """By folder name or number; differences are to the first one."""
    recipe: Recipe = "seed"
    seed: Seed = 42
    data: Data = "names"
    held_out: float = 0.1
    """Share of the distinct documents that are held out; 0: none, as in the programs."""
    evaluate: int = 1000
    """Held-out names for the loss, the same for all versions; 0: all."""
    samples: int = 20
    """Names to make up."""
    dtype: Annotated[str | None, flag("DTYPE", "each version's")] = None
    """Precision: float32 or float64."""
    variants: bool = False
    """Also train each version's variants, such as compiled: a row for each."""
    out: Annotated[Path | None, flag("FOLDER", "runs/<date>-compare-<recipe>-<seed>")] = None
    """Folder for the plot and compare.json."""
    numbers: RecipeNumbers = field(default_factory=Numbers)

    def run(self) -> int:
        from microgpt_lab.base import options
        from microgpt_lab.runs import compare, documents

        at_least(0, evaluate=self.evaluate, samples=self.samples)
        config = options.recipe(self.recipe, given_numbers(self.numbers))
        if not documents.can_be_read_again(self.data) and Path(self.data).exists():
            raise InputError(f"data {self.data!r} can be read once: give a file, for all versions")
        documents.prepare(config, self.data, self.seed, self.held_out)  # raises InputError
        names = ("seed", "data", "held_out", "evaluate", "samples")
        request = {name: getattr(self, name) for name in names}
        found = compare.rows_of(self.versions, self.variants, self.dtype)
        out = self.out or compare.default_folder(self.recipe, self.seed)
        return compare.compare(found, config, request, out, plain_console())


Temperature = Annotated[
    float | None,
    tyro.conf.arg(
        metavar="FLOAT",
        help=sentence(OPTIONS["temperature"].meaning),
        help_behavior_hint="(default: the recipe's)",
    ),
]


@dataclass
class Sample:
    """Make up names, each with its probability, and say which are new."""

    path: Annotated[Positional[Path | None], flag("[RUN|CHECKPOINT]", "the newest in runs/")] = None
    """Folder of a run, for its last checkpoint, or the file of a checkpoint."""
    samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 20
    """Names to make up."""
    prompt: Annotated[str, flag("TEXT")] = ""
    """Letters that each name starts with."""
    temperature: Temperature = None
    top_k: Annotated[int | None, flag("INT", "all")] = None
    """Draw from the k most likely letters only."""
    top_p: Annotated[float | None, flag("FLOAT", "all")] = None
    """Draw from the most likely letters whose probabilities sum to this."""
    seed: Annotated[int | None, flag("INT", "continue the run's random stream")] = None
    """Seed of the sampling."""
    with_: Annotated[str | None, flag("VERSION", "the one that wrote it", name="with")] = None
    """Version that computes."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        from microgpt_lab.runs import run_folder, sample

        checkpoint = run_folder.load(self.path)
        how = sample.SamplingOptions(
            self.prompt, self.temperature, self.top_k, self.top_p, self.seed
        )
        names = sample.draw_names(checkpoint, how, self.samples, self.with_)
        if self.json:
            print(sample.samples_as_json(names, checkpoint, how))
        else:
            sample.show_samples(names, checkpoint, plain_console())
        return 0


@dataclass
class Show:
    """Show what a model computes for a name, or its letters' embeddings."""

    path: Annotated[Positional[Path], flag("RUN|CHECKPOINT")]
    """Folder of a run, for its last checkpoint, or the file of a checkpoint."""
    name: Annotated[Positional[str], flag("[NAME]", "none")] = ""
    """Name to read: shows the probabilities of its letters, and attention."""
    embeddings: bool = False
    """Instead: the letters' embeddings in two dimensions, at each checkpoint of a run."""
    out: Annotated[Path | None, flag("FILE", "show-<name>.svg in the run's folder")] = None
    """Picture; its suffix is the format: svg, png or pdf."""

    def run(self) -> int:
        from microgpt_lab.base import files, plots
        from microgpt_lab.runs import run_folder, show

        console, path = plain_console(), run_folder.find_run(self.path)
        if self.embeddings == bool(self.name):
            raise InputError("show takes a name to read, or --embeddings")
        folder = run_folder.folder_of(path)
        out = self.out or folder / f"show-{files.name_from(self.name or 'embeddings')}.svg"
        plots.kind_of(out)
        files.ensure_writable(out)
        if self.embeddings:
            paths = show.embedding_paths(folder)
            show.show_embeddings(paths, console)
            show.draw_embeddings(paths, folder.name, out)
        else:
            checkpoint = run_folder.load(path)
            reading = show.read_name(checkpoint, self.name)
            show.show_reading(reading, console)
            title = f"{checkpoint.version} after step {checkpoint.step:,}"
            show.draw_reading(reading, title, out)
        console.print(f"\npicture: {out}", soft_wrap=True)
        return 0


@dataclass
class Export:
    """Write a checkpoint's numbers as JSON, npz or safetensors."""

    path: Annotated[Positional[Path], flag("RUN|CHECKPOINT")]
    """Folder of a run, for its last checkpoint, or the file of a checkpoint."""
    out: Annotated[Positional[Path], flag("FILE")]
    """File to write, .json, .npz or .safetensors; must not exist."""
    moments: bool = False
    """Export both moments too, so that another program can continue the training."""

    def run(self) -> int:
        from microgpt_lab.runs import export, run_folder

        export.export_checkpoint(run_folder.load(self.path), self.out, self.moments)
        plain_console().print(str(self.out), soft_wrap=True)
        return 0


COMMANDS: dict[str, Any] = {
    "train": Train,
    "resume": Resume,
    "compare": Compare,
    "sample": Sample,
    "show": Show,
    "export": Export,
}
