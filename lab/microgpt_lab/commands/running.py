"""Commands that train, and that use what was trained."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from microgpt import InputError

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from microgpt_lab.base.terminal import plain_console
from microgpt_lab.commands.arguments import Numbers, Own, RecipeNumbers, flag


@dataclass
class Saving:
    """How far, and what is kept."""

    until: Annotated[int | None, flag("STEP", "the last")] = None
    """Stop after this step, saved, as if interrupted."""
    save_every: Annotated[int | None, flag("STEPS", "a tenth of the run, at most 1000")] = None
    """Steps from one checkpoint to the next."""
    keep: int = 100
    """Checkpoints to keep; beyond, those go first that stand closest."""
    evaluate: int = 1000
    """Held-out names to measure the loss on, the same each time; 0: all."""
    samples: int = 20
    """Names to make up at the end."""

    def settings(self) -> Any:
        from microgpt_lab.runs.training import Settings

        return Settings(self.until, self.save_every, self.keep, self.evaluate, self.samples)


@dataclass
class Train:
    """Train a version: a run's folder with log, checkpoints, names and a picture."""

    version: Annotated[Positional[str], flag("VERSION")]
    """Its folder's name, its number, or how the name begins."""
    recipe: Annotated[str | None, flag("RECIPE", "the version's, mostly seed")] = None
    """seed, gist or scaled."""
    seed: int = 42
    """Of all that is random: the shuffle, the weights, the names."""
    data: str = "names"
    """A file with one document a line, a URL, makemore or names."""
    held_out: float = 0.1
    """Share of the distinct documents never seen in training; 0: none."""
    out: Annotated[Path | None, flag("FOLDER", "runs/<date>-<version>-<recipe>-<seed>")] = None
    """Folder of the run, which must not exist."""
    saving: OmitArgPrefixes[Saving] = field(default_factory=Saving)
    framework: OmitArgPrefixes[Own] = field(default_factory=Own)
    numbers: RecipeNumbers = field(default_factory=Numbers)

    def run(self) -> int:
        from microgpt_lab.runs import training

        return training.train(
            self.version, self.recipe, vars(self.numbers), self.seed, self.data, self.held_out,
            self.framework.chosen, self.out, self.saving.settings(), plain_console(),
        )  # fmt: skip


@dataclass
class Resume:
    """Go on with a run as if it had never stopped, in the same version or in another."""

    path: Annotated[Positional[Path | None], flag("[RUN]", "the newest in runs/")] = None
    """The run's folder."""
    with_: Annotated[str | None, flag("VERSION", "the one that stopped", name="with")] = None
    """Hand over to this version."""
    saving: OmitArgPrefixes[Saving] = field(default_factory=Saving)
    framework: OmitArgPrefixes[Own] = field(default_factory=Own)

    def run(self) -> int:
        from microgpt_lab.runs import training

        return training.resume(
            self.path, self.with_, self.framework.chosen, self.saving.settings(), plain_console()
        )


@dataclass
class Compare:
    """Train versions with one seed, side by side: losses, names, time, memory, lines."""

    versions: Annotated[Positional[tuple[str, ...]], flag("[VERSION ...]", "all")] = ()
    """By folder name or number; the first is what the others are measured by."""
    recipe: str = "seed"
    """seed, gist or scaled, the same for all."""
    seed: int = 42
    """Of all that is random: the shuffle, the weights, the names."""
    data: str = "names"
    """A file with one document a line, a URL, makemore or names."""
    held_out: float = 0.1
    """Share of the distinct documents never seen in training; 0: none."""
    evaluate: int = 1000
    """Held-out names to measure the loss on, the same for all; 0: all."""
    samples: int = 20
    """Names that each makes up."""
    dtype: Annotated[str | None, flag("DTYPE", "each version's")] = None
    """Precision: float32 or float64."""
    variants: bool = False
    """Versions' other settings too, such as compiled: a row each."""
    out: Annotated[Path | None, flag("FOLDER", "runs/<date>-compare-<recipe>-<seed>")] = None
    """Folder for the picture and compare.json."""
    numbers: RecipeNumbers = field(default_factory=Numbers)

    def run(self) -> int:
        from microgpt_lab.base import options
        from microgpt_lab.runs import compare

        config = options.recipe(self.recipe, vars(self.numbers))
        names = ("seed", "data", "held_out", "evaluate", "samples")
        request = {name: getattr(self, name) for name in names}
        found = compare.rows(self.versions, self.variants, self.dtype)
        out = self.out or compare.folder(self.recipe, self.seed)
        return compare.compare(found, config, request, out, plain_console())


@dataclass
class Sample:
    """Make up names, each with its probability, and whether it is new."""

    path: Annotated[Positional[Path | None], flag("[RUN|CHECKPOINT]", "the newest in runs/")] = None
    """A run's folder, for its last checkpoint, or a checkpoint's file."""
    count: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 20
    """How many."""
    prompt: str = ""
    """Letters to start with."""
    temperature: Annotated[float | None, flag("FLOAT", "the recipe's")] = None
    """Below 1 is bolder, above 1 is wilder."""
    top_k: Annotated[int | None, flag("INT", "all")] = None
    """Draw from the k likeliest letters alone."""
    top_p: Annotated[float | None, flag("FLOAT", "all")] = None
    """Draw from the likeliest letters that hold this much together."""
    seed: Annotated[int | None, flag("INT", "the stream that training left")] = None
    """Of the draws."""
    with_: Annotated[str | None, flag("VERSION", "the one that wrote it", name="with")] = None
    """The version that computes."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        from microgpt_lab.runs import run_folder, sample

        checkpoint = run_folder.load(self.path)
        how = sample.How(self.prompt, self.temperature, self.top_k, self.top_p, self.seed)
        names = sample.draw(checkpoint, how, self.count, self.with_)
        if self.json:
            print(sample.to_json(names, checkpoint, how))
        else:
            sample.show(names, checkpoint, plain_console())
        return 0


@dataclass
class Show:
    """What the model sees in a name, or how its letters came to lie: text and picture."""

    path: Annotated[Positional[Path], flag("RUN|CHECKPOINT")]
    """A run's folder, for its last checkpoint, or a checkpoint's file."""
    name: Annotated[Positional[str], flag("[NAME]", "none")] = ""
    """The name that it reads."""
    embeddings: bool = False
    """The letters' embeddings in two dimensions, over the checkpoints of a run."""
    out: Annotated[Path | None, flag("FILE", "show-<name>.svg beside the checkpoints")] = None
    """The picture: svg, png or pdf, by its ending."""

    def run(self) -> int:
        from microgpt_lab.runs import run_folder, show

        console, path = plain_console(), run_folder.find(self.path)
        if self.embeddings == bool(self.name):
            raise InputError("show takes a name to read, or --embeddings")
        out = self.out or run_folder.folder_of(path) / f"show-{self.name or 'embeddings'}.svg"
        if self.embeddings:
            ways = show.embeddings(run_folder.folder_of(path))
            show.show_embeddings(ways, console)
            show.picture_embeddings(ways, run_folder.folder_of(path).name, out)
        else:
            checkpoint = run_folder.load(path)
            sight = show.look(checkpoint, self.name)
            show.show(sight, console)
            title = f"{checkpoint.version} after step {checkpoint.step:,}"
            show.picture(sight, title, out)
        console.print(f"\npicture: {out}", soft_wrap=True)
        return 0


@dataclass
class Export:
    """A checkpoint's numbers as JSON, npz or safetensors."""

    path: Annotated[Positional[Path], flag("RUN|CHECKPOINT")]
    """A run's folder, for its last checkpoint, or a checkpoint's file."""
    out: Annotated[Positional[Path], flag("FILE")]
    """Where to: .json, .npz or .safetensors; must not exist."""
    moments: bool = False
    """With both moments, so that training can go on elsewhere."""

    def run(self) -> int:
        from microgpt_lab.runs import export, run_folder

        export.export(run_folder.load(self.path), self.out, self.moments)
        print(self.out)
        return 0


COMMANDS: dict[str, Any] = {
    "train": Train,
    "resume": Resume,
    "compare": Compare,
    "sample": Sample,
    "show": Show,
    "export": Export,
}
