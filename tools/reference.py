"""The helper reference as Markdown: what helpers/ offers.

It is read from signatures and docstrings without importing anything.
"""

import ast
import re
from pathlib import Path


def as_text(docstring: str) -> str:
    """A docstring as Markdown: code in backticks is kept, and any other markup is escaped."""
    parts = re.split(r"(`[^`\n]+`)", docstring)
    return "".join(
        part if part.startswith("`") else re.sub(r"([\\<*_$\[{])", r"\\\1", part) for part in parts
    )


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """Name, parameters and result of a function, or name, bases and fields of a class."""
    if isinstance(node, ast.ClassDef):
        fields = [
            f"    {ast.unparse(field)}" for field in node.body if isinstance(field, ast.AnnAssign)
        ]
        head = f"class {node.name}({', '.join(map(ast.unparse, node.bases))})"
        return "\n".join([f"{head}:", *fields]) if fields else head
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{node.name}({ast.unparse(node.args)}){result}"


def helper_reference(folder: Path) -> str:
    """One section for each module in `folder`: its docstring and, folded away, its public parts.

    Of each public function and class, the signature and the docstring are shown.
    """
    sections = []
    for path in sorted(folder.glob("*.py")):
        module = ast.parse(path.read_text(encoding="utf-8"))
        name = folder.name if path.stem == "__init__" else f"{folder.name}.{path.stem}"
        sections += [f"## {name}", as_text(ast.get_docstring(module) or "")]
        public = [
            node
            for node in module.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not node.name.startswith("_")
            and ast.get_docstring(node)
        ]
        if public:
            names = ", ".join(f"`{node.name}`" for node in public)
            # tildes, because the title of a fence of backticks may not hold any
            sections += [f"~~~~{{dropdown}} {names}"]
            for node in public:
                sections += [f"```python\n{signature(node)}\n```", as_text(ast.get_docstring(node))]
            sections += ["~~~~"]
    return "\n\n".join(sections)
