"""speedrun/README.md: the table of records between its markers, and the picture beside it."""

from microgpt import InputError, visible

from matplotlib.figure import Figure

from microgpt_lab.base import files, plots
from microgpt_lab.base.plots import COLOURS
from microgpt_lab.speedrun import race
from microgpt_lab.speedrun.entries import FOLDER, LIMITS, Entry, all_entries

START, END = "<!-- records -->", "<!-- /records -->"
PICTURE = "records.svg"


def held() -> list[Entry]:
    """The entries that have a record."""
    return [entry for entry in all_entries() if entry.record]


def table() -> str:
    """The records as Markdown."""
    lines = []
    for folder, limit in LIMITS.items():
        lines += [
            f"### {limit:g} second{'s' * (limit != 1)} of one core",
            "",
            "| entry | held-out loss | standard deviation | seeds | training | better than the one "
            "before | date |",
            "|---|---:|---:|---:|---:|---:|---|",
        ]
        for entry in held():
            if entry.name.startswith(folder):
                lines.append(row(entry))
        lines.append("")
    machines = {entry.record.machine for entry in held() if entry.record}
    return "\n".join(lines) + f"\nMeasured on: {'; '.join(sorted(machines))}."


def row(entry: Entry) -> str:
    """An entry's line in the table."""
    record = entry.record
    assert record
    against = "–"
    if record.rival:
        gain = race.mean_loss(record.rival.runs) - race.mean_loss(record.runs)
        against = f"{gain:.4f}, p = {record.rival.p:.3f}"
    title = visible(entry.description.title).replace("|", "\\|")
    return (
        f"| [{title}]({entry.name}.toml) | {race.mean_loss(record.runs):.4f} | "
        f"{race.deviation(record.runs):.4f} | {len(record.runs)} | "
        f"{race.seconds(record.runs):.2f} s | {against} | {record.date} |"
    )


def text() -> str:
    """The page with its generated part made anew. Raises InputError."""
    path = FOLDER / "README.md"
    page = files.read_text(path)
    if page.count(START) != 1 or page.count(END) != 1:
        raise InputError(f"{path} must have the lines {START} and {END} once each")
    before, rest = page.split(START)
    return f"{before}{START}\n{table()}\n{END}{rest.split(END)[1]}"


def write() -> None:
    """Write the page and its picture. Raises InputError."""
    files.write(FOLDER / "README.md", text())
    draw()


def draw() -> None:
    """Draw each record: its seconds, its mean loss and its seeds."""
    figure = Figure(figsize=(7.2, 4))
    axes = figure.subplots()
    for i, entry in enumerate(held()):
        record = entry.record
        assert record
        colour, x = COLOURS[i % len(COLOURS)], race.seconds(record.runs)
        losses = [run.loss for run in record.runs]
        axes.plot([x] * len(losses), losses, "_", color=colour, ms=9)
        mean = race.mean_loss(record.runs)
        axes.plot(x, mean, "o", color=colour, label=f"{mean:.3f}  {entry.description.title}")
    axes.set(xscale="log", xlabel="seconds of training, one core")
    axes.set_xticks(list(LIMITS.values()), [f"{x:g}" for x in LIMITS.values()])
    axes.set(ylabel="held-out loss, nats a letter", xlim=(0.5, 20))
    axes.legend(loc="upper right", fontsize=8)
    plots.save(figure, FOLDER / PICTURE)
