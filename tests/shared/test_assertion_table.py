"""The table of assertions in docs/explain/fidelity.md names tests that exist, and all that are numbered."""

import re
from pathlib import Path

PROJECT_DIR = Path(__file__).parents[2]
ROW = re.compile(r"^\| T(\d+) \| .* \| (`.*`) \| .+ \|$", re.MULTILINE)


def test_every_assertion_has_its_tests_and_every_numbered_test_its_row() -> None:
    text = (PROJECT_DIR / "docs" / "explain" / "fidelity.md").read_text(encoding="utf-8")
    rows = {int(number): re.findall(r"`(\w+)`", tests) for number, tests in ROW.findall(text)}
    assert list(rows) == list(range(1, 33))
    sources = [path.read_text(encoding="utf-8") for path in sorted((PROJECT_DIR / "tests").rglob("test_*.py"))]
    existing = [name for source in sources for name in re.findall(r"^def (test_t\d\d_\w+)", source, re.MULTILINE)]
    named = [name for tests in rows.values() for name in tests]
    assert sorted(named) == sorted(existing)
    assert all(name.startswith(f"test_t{number:02d}_") for number, tests in rows.items() for name in tests)
