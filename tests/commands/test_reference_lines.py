"""`microgpt lines`: what it counts, and that 01's README shows it."""

from microgpt import InputError

import pytest
from microgpt_lab.base.lines import code_line_numbers
from microgpt_lab.commands import reference_lines

SOURCE = reference_lines.PROGRAM.read_text("utf-8")


def test_the_readme_shows_what_the_command_counts(tmp_path):
    readme = reference_lines.README.read_text("utf-8")
    (tmp_path / "README.md").write_text(readme)
    reference_lines.write_lines(reference_lines.count_parts(SOURCE), tmp_path / "README.md")
    written = (tmp_path / "README.md").read_text()
    assert written == readme, "it changed: microgpt lines --write"


def test_each_line_of_code_belongs_to_one_part():
    counts = reference_lines.count_parts(SOURCE)
    assert sum(counts.values()) == len(code_line_numbers(SOURCE))
    assert all(counts.values())


def test_blanks_comments_and_docstrings_are_no_code():
    text = ['"""Text."""', "", "x = 1  # one", "# two", "def f():", '    """Text,', '    more."""']
    source = "\n".join([*text, "    y = [", "        1,", "    ]", ""])
    assert code_line_numbers(source) == {3, 5, 8, 9, 10}


def test_a_section_of_no_part_is_refused():
    ruler = "# " + "-" * 64
    with pytest.raises(InputError, match="line 1: section 'Dreams' belongs to no part"):
        reference_lines.count_parts(f"{ruler} Dreams\n{SOURCE}")


def test_a_check_that_has_left_the_program_is_told():
    with pytest.raises(InputError, match="has no refuse_misfits"):
        reference_lines.count_parts(SOURCE.replace("refuse_misfits", "refuse"))


def test_a_readme_without_markers_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# 01\n")
    with pytest.raises(InputError, match="needs the lines <!-- lines"):
        reference_lines.write_lines(reference_lines.count_parts(SOURCE), tmp_path / "README.md")
