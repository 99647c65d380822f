"""What a benchmark measures: versions and their variants, each with its options."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from microgpt import InputError

from microgpt_lab.base import options
from microgpt_lab.base.versions import Version, ensure_tree, pick, readable
from microgpt_lab.benchmark import lower_bound


@dataclass
class Setup:
    """A version or one of its variants, with its options: one row of the tables."""

    version: Version
    variant: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    reason: str = ""  # why it cannot be measured

    @property
    def name(self) -> str:
        return f"{self.version.name} {self.variant}".strip()

    @property
    def dtype(self) -> str:
        return str(self.options["dtype"])

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments for the version's create(); a variant may set its own threads."""
        return {"threads": self.threads} | self.options

    def label(self) -> dict[str, Any]:
        """The keys that distinguish its row from the others of a record."""
        return {"version": self.version.name, "variant": self.variant, "dtype": self.dtype}


def setups(names: Sequence[str], dtype: str | None, device: str) -> list[Setup]:
    """The versions of these names (all of them for no names) and their variants.

    `dtype` None means float32 where a version has it. A setup that cannot run here has a reason.
    Raises InputError for an unknown version, dtype or device.
    """
    ensure_tree()
    if device not in (known := devices()):
        raise InputError(f"no device {device!r}{options.hint(device, known)}")
    if dtype not in (None, *lower_bound.BYTES):
        raise InputError(f"no dtype {dtype!r}{options.hint(str(dtype), lower_bound.BYTES)}")
    found = []
    for version in pick(names):
        own_dtype = "float32" if "float32" in version.dtypes else version.dtypes[0]
        here = version.device_named(device)
        reason = version.missing or ""
        if dtype and dtype not in version.dtypes:
            reason = f"it has no {dtype}"
        elif not here:
            reason = f"it has no {device}"
        for variant, chosen in {"": {}, **version.variants}.items():
            given = chosen | {"dtype": dtype or own_dtype, "device": here or device}
            found.append(Setup(version, variant, given, reason=reason))
    return found


def devices() -> list[str]:
    """The devices of all versions."""
    return sorted({name for version in readable() for name in version.devices})
