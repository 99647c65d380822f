"""`microgpt doctor`: what it says of versions that work, and of those that do not."""

from dataclasses import replace

import microgpt

from microgpt_lab.base import versions
from microgpt_lab.commands import doctor

from lab_helpers import NUMPY


def test_it_says_what_works_and_what_is_missing(lab, monkeypatch):
    numpy = versions.find()[NUMPY]
    missing = replace(numpy, name="99_missing", framework="no_such_module")
    broken = replace(numpy, name="98_broken")  # a folder that does not exist
    monkeypatch.setattr(doctor, "pick", lambda asked: [numpy, missing, broken])
    assert lab("doctor") == 1
    assert f"✓ {NUMPY}" in lab.out
    assert "NumPy" in lab.out
    assert "✗ 99_missing" in lab.out
    assert "uv sync --all-packages" in lab.out
    assert "✗ 98_broken" in lab.out
    assert microgpt.SHA256["names"][:16] in lab.out
    assert max(map(len, lab.out.splitlines())) <= 80


def test_where_all_works_it_ends_with_status_0(lab, monkeypatch):
    works = [doctor.VersionReport(versions.find()[NUMPY], {"cpu": "NumPy"}, {})]
    monkeypatch.setattr(doctor, "try_all", lambda: iter(works))
    assert lab("doctor") == 0
    assert "Everything is installed and works." in lab.out
