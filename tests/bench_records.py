"""Made-up records of a benchmark, for the tests."""

from microgpt_lab.benchmark.record import FORMAT


def make_curve(version, costs, variant="", threads=1, **other):
    """A curve with a point for each value of `costs`: seconds a step."""
    points = [
        {"value": x, "step": y, "rounds": [y], "lower_bound": min(costs.values()) / 3}
        for x, y in costs.items()
    ]
    made = {
        "run": 1, "version": version, "variant": variant, "dtype": "float32",
        "threads": threads, "about": f"made up, {threads} thread", "reason": "",
        "points": points,
    }  # fmt: skip
    return made | other


def make_sweep(varied, *curves, threads=(1,)):
    names = {"n_embd": "width", "batch_size": "batch"}
    return {
        "name": "threads" if threads[1:] else names[varied], "varied": varied, "threads": threads,
        "recipe": "scaled" if varied == "batch_size" else "seed",
        "values": sorted({point["value"] for curve in curves for point in curve["points"]}),
        "curves": list(curves),
    }  # fmt: skip


def make_row(version, step, variant="", recipe="seed", **other):
    rounds = [0.9 * step, step, step, step, 1.1 * step]
    made = {
        "run": 1, "version": version, "variant": variant, "dtype": "float32", "recipe": recipe,
        "reason": "", "about": "made up", "threads": 1, "start": 1.0, "first_step": 1.5,
        "names_after": 3.0, "memory": 2**26, "workload_steps": 8, "tokens": 7.0,
        "operations": 2e5, "numbers_moved": 1000, "rounds": rounds, "step": step,
        "spread": 0.05, "first_step_extra": 0.5, "tokens_per_second": 7 / step,
        "lower_bound": 2e-6,
    }  # fmt: skip
    return made | other


def make_failed_row(version, variant="", recipe="seed", reason="no luck"):
    return {
        "run": 1, "version": version, "variant": variant, "dtype": "float32", "recipe": recipe,
        "reason": reason,
    }  # fmt: skip


def make_record(rows=(), swept=(), **run):
    machine = {"processor": "P", "cores": 2, "system": "S", "python": "3.11.0"}
    made = {
        "run": 1, "date": "2031-01-02", "machine": machine, "device": "cpu", "rounds": 5,
        "seconds": 9.0, "rates": {},
    }  # fmt: skip
    return {"format": FORMAT, "runs": [made | run], "rows": list(rows), "sweeps": list(swept)}
