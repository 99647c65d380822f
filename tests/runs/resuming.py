"""What a process that will be killed does. It imports little, so that it soon trains."""

import os
from pathlib import Path

from microgpt_lab.base import terminal
from microgpt_lab.runs import starting, training


def resume_in_silence(path):
    """`microgpt resume` with a checkpoint every five steps, its output thrown away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    settings = training.TrainingSettings(save_every=5, keep=20)
    starting.resume(Path(path), None, (None, None, ()), settings, terminal.plain_console())
