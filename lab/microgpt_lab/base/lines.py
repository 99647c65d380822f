"""Count lines of code: those that are neither blank, nor comment, nor docstring."""

import ast
import io
import tokenize

NO_CODE = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE,
    tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip


def code_lines_of(source: str) -> int:
    """How many lines of a Python program hold code."""
    return len(code_line_numbers(source))


def code_line_numbers(source: str) -> set[int]:
    """The numbers of the lines that hold code, from 1 on. A statement of three lines has three."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)):
            continue
        if ast.get_docstring(node) is not None:
            docstrings |= lines_of(node.body[0])
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            code |= {*range(token.start[0], token.end[0] + 1)}
    return code - docstrings


def lines_of(node: ast.stmt) -> set[int]:
    """The numbers of a statement's lines, decorators included."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return {*range(first, (node.end_lineno or node.lineno) + 1)}
