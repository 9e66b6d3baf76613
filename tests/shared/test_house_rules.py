"""The rules of the house that a reader cannot see in one file, read off the syntax trees."""

import ast
import functools
import graphlib
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

PROJECT_DIR = Path(__file__).parents[2]
SOURCES = sorted(p for room in ("components", "pipeline") for p in (PROJECT_DIR / room).rglob("*.py"))
ROOMS = sorted(p.name for p in (PROJECT_DIR / "components").iterdir() if (p / "__main__.py").is_file())
HEAVY = {
    "tensorflow",
    "tensorflow_transform",
    "keras",
    "apache_beam",
    "dask",
    "distributed",
    "numpy",
    "scipy",
    "cv2",
    "PIL",
    "matplotlib",
}

MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_FLOW_LINES = 300, 50, 80
FLOWS = {"run", "main", "alexnet", "train"}  # read from top to bottom: components, commands, the graph, the training
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

# The rooms within a room, from top to bottom; what lies in none is below all in `pipeline`, above all in `train`.
PIPELINE_FLOORS = (("commands",), ("kubeflow",), ("local",), ("graph",), ("spec",))
TRAIN_FLOORS = (("run",), ("input", "net"), ("recipes",))

OBJECT_STORES = {"google.cloud", "boto3", "botocore", "minio", "fsspec", "gcsfs", "s3fs"}
# Modules of components/shared that need packages, as only the reports do that import them.
FOR_REPORTS = {
    "components/shared/html.py": {"jinja2", "markupsafe"},
    "components/shared/figures.py": {"matplotlib", "numpy", "PIL"},
}
FILE_METHODS = {"open", "read_text", "read_bytes", "write_text", "write_bytes"}
MAY_OPEN = {
    "components/shared/storage/__init__.py": "the one place that opens artifacts",
    "components/shared/storage/base.py": "the digest of a local file",
    "components/shared/storage/local.py": "this machine's disks",
    "components/shared/storage/s3.py": "reads the parts of a file that goes up",
    "components/shared/storage/staging.py": "its local copies of objects",
    "pipeline/local/engine.py": "the live log of a task, which grows while the task runs and is no artifact",
}


def path_of(source: Path) -> str:
    return source.relative_to(PROJECT_DIR).as_posix()


@functools.cache
def tree_of(source: Path) -> ast.Module:
    return ast.parse(source.read_text(encoding="utf-8"))


def imports_of(node: ast.AST) -> Iterator[str]:
    """Yield the full names of what is imported anywhere under a node: `from a import b` is `a.b`."""
    for child in ast.walk(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative imports hide the room"
            yield from (f"{child.module}.{alias.name}" for alias in child.names)


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def room_of(source: Path) -> str:
    parts = source.relative_to(PROJECT_DIR).parts
    return parts[1] if parts[0] == "components" and len(parts) > 2 else parts[0]


def faults_of(rule: Callable[[Path], Iterable[str]], sources: list[Path] = SOURCES) -> list[str]:
    """Ask a rule about each source; returns what is wrong, with its place."""
    return [f"{path_of(source)}: {fault}" for source in sources for fault in rule(source)]


def test_there_is_something_to_check() -> None:
    assert ROOMS == ["evaluate", "ingest", "outcome", "sample", "statistics", "train"]
    assert len(SOURCES) > 30
    assert all((PROJECT_DIR / path).is_file() for path in MAY_OPEN)


def forbidden_imports(source: Path) -> Iterator[str]:
    room = room_of(source)
    names = set(imports_of(tree_of(source)))
    if room in (*ROOMS, "shared"):
        others = {f"components.{other}" for other in ROOMS if other != room}
        yield from (n for n in names if within(n, others | {"pipeline", "kfp"}))
    if room == "pipeline":
        allowed = {"components.shared", *(f"components.{r}.contract" for r in ROOMS)}
        yield from (n for n in names if within(n, {"components"}) and not within(n, allowed))
        yield from (n for n in names if within(n, HEAVY))
    if room != "statistics":
        yield from (n for n in names if within(n, {"tensorflow_transform", "tfx_bsl"}))
    if path_of(source) not in ("components/shared/storage/gcs.py", "components/shared/storage/s3.py"):
        yield from (n for n in names if within(n, OBJECT_STORES))


@pytest.mark.slow
def test_imports() -> None:
    assert faults_of(forbidden_imports) == []


def floor_of(path: str, floors: tuple[tuple[str, ...], ...], otherwise: int) -> int:
    """Return the floor of a module, 0 at the bottom; `otherwise` is that of what lies in no room."""
    room = path.rpartition("/")[0].rpartition("/")[2]
    return next((len(floors) - k for k, rooms in enumerate(floors) if room in rooms), otherwise)


@pytest.mark.parametrize(
    ("room", "floors", "otherwise"),
    [
        ("pipeline", PIPELINE_FLOORS, 0),
        ("train", TRAIN_FLOORS, len(TRAIN_FLOORS) + 1),
        *((room, (), 0) for room in ("shared", "sample", "ingest", "statistics", "evaluate", "outcome")),
    ],
)
def test_no_import_runs_up_nor_in_a_circle(room: str, floors: tuple[tuple[str, ...], ...], otherwise: int) -> None:
    modules = {
        path_of(s).removesuffix(".py").removesuffix("/__init__").replace("/", "."): s
        for s in SOURCES
        if room_of(s) == room
    }
    graph: dict[str, set[str]] = {}
    for name, source in modules.items():
        imported = {n if n in modules else n.rpartition(".")[0] for n in imports_of(tree_of(source))}
        graph[name] = (imported & modules.keys()) - {name, f"components.{room}.contract"}
        here = floor_of(path_of(source), floors, otherwise)
        up = [n for n in graph[name] if floor_of(path_of(modules[n]), floors, otherwise) > here]
        assert up == [], f"{name} imports from above"
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_only_the_graph_loads_kfp() -> None:
    for source in SOURCES:
        top = [statement for statement in tree_of(source).body if isinstance(statement, ast.Import | ast.ImportFrom)]
        if any(within(name, {"kfp"}) for statement in top for name in imports_of(statement)):
            assert path_of(source).startswith("pipeline/graph/")


def foreign_packages(source: Path) -> set[str]:
    top = [statement for statement in tree_of(source).body if isinstance(statement, ast.Import | ast.ImportFrom)]
    packages = {name.partition(".")[0] for statement in top for name in imports_of(statement)}
    return packages - sys.stdlib_module_names - {"components", "google_crc32c"}  # the checksum of TFRecords is small


def test_shared_needs_the_standard_library_only() -> None:
    sources = [s for s in SOURCES if room_of(s) == "shared" and path_of(s) not in FOR_REPORTS]
    assert faults_of(foreign_packages, sources) == []
    assert {path: foreign_packages(PROJECT_DIR / path) for path in FOR_REPORTS} == FOR_REPORTS


def needs_what_reports_need(source: Path) -> Iterator[str]:
    modules = {path.removesuffix(".py").replace("/", ".") for path in FOR_REPORTS}
    yield from (name for name in imports_of(tree_of(source)) if within(name, {*modules, "jinja2", "markupsafe"}))


def test_only_reports_are_made_of_templates() -> None:
    sources = [s for s in SOURCES if path_of(s) not in FOR_REPORTS]
    faults = faults_of(needs_what_reports_need, sources)
    reports = ("components/evaluate/report/", "components/train/run/report.py:")
    assert [fault for fault in faults if not fault.startswith(reports)] == []


def needs_more_than_shared(source: Path) -> Iterator[str]:
    """Yield what a module imports beside the standard library and `shared`, through modules of its own room too."""
    room = f"components.{room_of(source)}"
    for name in imports_of(tree_of(source)):
        if name.partition(".")[0] in sys.stdlib_module_names or within(name, {"components.shared"}):
            continue
        module = name if (PROJECT_DIR / f"{name.replace('.', '/')}.py").is_file() else name.rpartition(".")[0]
        own = PROJECT_DIR / f"{module.replace('.', '/')}.py"
        if within(name, {room}) and own.is_file():
            yield from needs_more_than_shared(own)
        elif within(name, {room}) and (PROJECT_DIR / name.replace(".", "/") / "__init__.py").is_file():
            continue
        else:
            yield name


def test_contract_and_entry_point_import_nothing_but_shared() -> None:
    ends = [PROJECT_DIR / "components" / room / name for room in ROOMS for name in ("contract.py", "__main__.py")]
    assert faults_of(needs_more_than_shared, ends) == []


READ_THE_ENVIRONMENT = {
    "components/shared/settings.py": "the list of all variables",
    "components/shared/contract/command_line.py": "sets what TensorFlow reads",
    "components/ingest/devkit.py": "makes the environment of a process",
    "pipeline/local/engine.py": "makes the environment of a task",
}


def read_environment(source: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv"):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_only_settings_reads_the_environment() -> None:
    assert faults_of(read_environment, [s for s in SOURCES if path_of(s) not in READ_THE_ENVIRONMENT]) == []


@pytest.mark.slow
def test_loading_the_graph_makes_nothing() -> None:
    """Components are made when the pipeline is compiled; an import reads no digests and no environment."""
    script = (
        "import kfp.kubernetes, kfp.dsl as d; made = []; d.container_component = lambda *a, **k: made.append(a)\n"
        "import pipeline.graph.graph; assert not made, made"
    )
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT_DIR, check=True)


def too_long_or_vague(source: Path) -> Iterator[str]:
    if source.stem in VAGUE_NAMES:
        yield "a name that says nothing"
    if (lines := len(source.read_text(encoding="utf-8").splitlines())) > MAX_FILE_LINES:
        yield f"{lines} lines"
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            if lines > (MAX_FLOW_LINES if node.name in FLOWS else MAX_FUNCTION_LINES):
                yield f"{node.name}: {lines} lines"


def test_sizes_and_names() -> None:
    assert faults_of(too_long_or_vague) == []


def opens_a_file(call: ast.Call) -> bool:
    """Tell whether a call opens a file by name; archives and images that are already in memory do not."""
    match call.func:
        case ast.Name(id="open"):
            return True
        case ast.Attribute(value=ast.Name(id="storage")):
            return False
        case ast.Attribute(value=ast.Name(id="tarfile"), attr="open"):
            return all(keyword.arg != "fileobj" for keyword in call.keywords)
        case ast.Attribute(value=ast.Name(id="Image"), attr="open"):
            return "BytesIO" not in ast.unparse(call.args[0])
        case ast.Attribute(attr=name):
            return name in FILE_METHODS
    return False


def opened_files(source: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(source)):
        if isinstance(node, ast.Call) and opens_a_file(node):
            yield f"line {node.lineno}: {ast.unparse(node)[:80]}"


def test_only_storage_opens_files() -> None:
    assert faults_of(opened_files, [s for s in SOURCES if path_of(s) not in MAY_OPEN]) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("open('x')", True),
        ("path.open('rb')", True),
        ("Path(x).read_text()", True),
        ("storage.open_read(uri)", False),
        ("storage.read_bytes(uri)", False),
        ("tarfile.open('x.tar')", True),
        ("tarfile.open(fileobj=file)", False),
        ("Image.open(path)", True),
        ("Image.open(io.BytesIO(data))", False),
    ],
)
def test_the_rule_about_files_sees(text: str, expected: bool) -> None:
    assert opens_a_file(ast.parse(text, mode="eval").body) is expected


def test_no_vague_file_anywhere() -> None:
    folders = (PROJECT_DIR / name for name in ("components", "pipeline", "tests", "benchmarks"))
    assert [path_of(p) for folder in folders for p in folder.rglob("*.py") if p.stem in VAGUE_NAMES] == []
