"""What several tests of the verification need built once."""

import shutil
import subprocess

import pytest
from microgpt_lab.verification import vectors


@pytest.fixture(scope="session")
def c_port(tmp_path_factory):
    """A function that builds the port in C, with some edits, and returns its command."""
    source = (vectors.FOLDER.parent / "examples" / "c" / "port.c").read_text()
    cc = shutil.which("cc")
    assert cc, "the C port is built with cc, which is not there"

    def build(*edits):
        text = source
        for find, replace in edits:
            assert text.count(find) == 1, find
            text = text.replace(find, replace)
        folder = tmp_path_factory.mktemp("port")
        (folder / "port.c").write_text(text)
        command = [cc, "-O2", "-std=c11", "-Wall", "-o", "port", "port.c", "-lm"]
        subprocess.run(command, cwd=folder, check=True)
        return str(folder / "port")

    return build
