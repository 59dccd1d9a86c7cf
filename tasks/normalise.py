"""Python source reduced to what it means: runnable, and one text under every Python version.

Comments, docstrings and formatting are gone. f-strings are spelt as `str.format`, since Python
versions print them differently. Needs the standard library alone.
"""

from __future__ import annotations

import ast


class _Normaliser(ast.NodeTransformer):
    """Drop docstrings; spell f-strings as `str.format`, whose text no Python version varies."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        values: list[ast.expr] = []
        template = self._template(node, values)
        return ast.Call(
            func=ast.Attribute(value=ast.Constant(template), attr="format", ctx=ast.Load()),
            args=values,
            keywords=[],
        )

    def _template(self, node: ast.JoinedStr, values: list[ast.expr]) -> str:
        parts = []
        for piece in node.values:
            if isinstance(piece, ast.Constant):
                parts.append(str(piece.value).replace("{", "{{").replace("}", "}}"))
            elif isinstance(piece, ast.FormattedValue):
                field = str(len(values))
                values.append(self.visit(piece.value))
                if piece.conversion != -1:
                    field += "!" + chr(piece.conversion)
                if isinstance(piece.format_spec, ast.JoinedStr):
                    field += ":" + self._template(piece.format_spec, values)
                parts.append("{" + field + "}")
        return "".join(parts)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = [
                statement
                for statement in node.body
                if not (
                    isinstance(statement, ast.Expr)
                    and isinstance(statement.value, ast.Constant)
                    and isinstance(statement.value.value, str)
                )
            ]
            node.body = body or ([] if isinstance(node, ast.Module) else [ast.Pass()])
        return super().generic_visit(node)


def normalise(source: str) -> str:
    """Runnable source of the same meaning, without comments, docstrings and formatting.

    The text is the same under every supported Python version. Strings standing alone as
    statements are dropped wherever they are.

    Raises SyntaxError as `ast.parse` does.
    """
    tree = _Normaliser().visit(ast.parse(source))
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"
