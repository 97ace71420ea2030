"""Every file and name that the documents point to exists."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("bench", "csrc", "docs", "examples", "fastinterp", "tests")  # a path that begins so is one of the project's
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "bench/**/*.md", "examples/*.md", "tests/**/*.md")
    for path in ROOT.glob(pattern)
)

LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"([\w.-]+(?:/[\w.-]+)+/?|[\w-]+\.\w+)(?:: ([\w:]+(?:, [\w:]+)*))?")


def missing(document: Path, root: Path = ROOT) -> list[str]:
    """What a document points to and the project does not have: links, paths, and `file: name, name`."""
    text = BLOCK.sub("", document.read_text(encoding="utf-8"))
    found = []
    for link in LINK.findall(text):
        if not re.match(r"https?:|mailto:|#", link) and not (document.parent / link.split("#")[0]).exists():
            found.append(link)
    for code in CODE.findall(text):
        place = PLACE.fullmatch(code)
        if "NAME" in code:  # stands for any
            continue
        if place is None or not (code.startswith(tuple(f"{folder}/" for folder in FOLDERS)) or place[2]):
            continue
        path = root / place[1]
        if not path.exists():
            found.append(code)
        else:
            found += [
                f"{place[1]}: {name}" for name in (place[2] or "").split(", ") if name and not defines(path, name)
            ]
    return found


def defines(path: Path, name: str) -> bool:
    """Whether a source file defines a function, class, struct or member; `Outer::inner` asks for both."""
    return set(name.split("::")) <= (python_names(path) if path.suffix == ".py" else cpp_names(path))


@functools.cache
def python_names(path: Path) -> frozenset[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds))


@functools.cache
def cpp_names(path: Path) -> frozenset[str]:
    """Functions with a body, and structs and classes with one; a call or a mere declaration is no definition."""
    text = re.sub(r"//[^\n]*", "", path.read_text())
    names = set(re.findall(r"\b(?:struct|class) (\w+)(?:<[^>;{]*>)?(?: final)?\s*(?::[^;{]*)?\{", text))
    for call in re.finditer(r"\b(\w+)\s*\(", text):
        depth, end = 1, call.end()
        while depth and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        if re.match(r"\s*(?:const\s*)?(?:noexcept\s*)?(?::[^;{]*)?\{", text[end:]):
            names.add(call[1])
    return frozenset(names - {"if", "for", "while", "switch"})


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_points_to_exists(document: Path):
    assert missing(document) == []


def test_every_part_of_the_method_has_its_three_places():
    rows = re.findall(r"^\| ([^|`]+) \| (.*`.*) \| (.*`.*) \| (.*`.*) \|$", (ROOT / "docs/method.md").read_text(), re.M)
    assert {"Adam", "Certificate", "CCP"} <= {row[0] for row in rows}
    numbers = {int(number) for row in rows if row[0].startswith("Eq.") for number in re.findall(r"\d+", row[0][:8])}
    assert numbers == set(range(1, 9))
    for name, *places in rows:
        for place in places:
            assert re.search(r"`[\w/.-]+: [\w:, ]+`", place), f"{name}: {place}"
        assert "fastinterp/kernels/reference" in places[0]


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("[it](docs/none.md)", ["docs/none.md"]),
        ("[it](https://example.org/none.md) [here](#none) [there](docs/real.md#part)", []),
        ("`fastinterp/none.py`", ["fastinterp/none.py"]),
        ("`fastinterp/real.py` and `docs/`", []),
        ("`reviews.csv`, `a/b` and `python -m bench`", []),
        ("`fastinterp/real.py: found, Found`", []),
        ("`fastinterp/real.py: found, lost`", ["fastinterp/real.py: lost"]),
        ("`csrc/real.h: Kernel::run, add`", []),
        ("`csrc/real.h: Kernel::walk, called, declared, Forward`",
         ["csrc/real.h: Kernel::walk", "csrc/real.h: called", "csrc/real.h: declared", "csrc/real.h: Forward"]),
        ("`nowhere.h: run`", ["nowhere.h: run"]),
        ("`csrc/NAME/` and `bench/NAME.py`", []),
    ],
)  # fmt: skip
def test_what_is_missing_is_found(tmp_path: Path, written: str, wrong: list[str]):
    for name, text in {
        "fastinterp/real.py": "class Found:\n    def found(self): ...\nlost = 1\n",
        "csrc/real.h": "int declared(int);\nstruct Forward;\n"
        "template <class Real>\nstruct Kernel {\n  void run(int a) const { called(a); }\n};\n"
        "template <class T>\nT add(T a,\n      T b) {\n  if (called(a)) return b;\n}\n",
        "docs/real.md": "",
        "README.md": written,
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert missing(tmp_path / "README.md", tmp_path) == wrong
