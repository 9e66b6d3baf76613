"""The parts of README.md that are made from the contracts: a flag table and a docker line for each component."""

import re

from components.shared.contract import Contract, Field, fields
from components.shared.errors import DataError
from pipeline.components import COMPONENTS, SOURCE_DIR
from pipeline.images import tag

README_PATH = SOURCE_DIR / "README.md"
EXAMPLES = {
    "release_uri": "/data/release",
    "root_uri": "/data/root",
    "out": "/data/release",
    "status": """'{"state": "SUCCEEDED"}'""",
    "run_id": "run-1",
    "seeds": "'[0]'",
}
ESCAPED = "\\|"  # a bar inside a Markdown table
# Where an input artifact of this name comes from: component and output.
PRODUCERS = {"dataset": ("ingest", "dataset"), "statistics": ("statistics", "statistics"), "models": ("train", "model")}
SUFFIXES = {"HTML": ".html", "Markdown": ".md"}


def _example(contract: type[Contract], f: Field) -> str:
    if f.role == "parameter":
        return EXAMPLES[f.name]
    component, output = (contract.NAME, f.name) if f.role == "output" else PRODUCERS[f.name]
    return f"/data/{component}/{output}{SUFFIXES.get(f.artifact_type, '.json')}"


def _default(f: Field) -> str:
    return "required" if f.required else f"`{f.render(f.default)}`" if f.default != "" else "empty"


def block(contract: type[Contract]) -> str:
    """Write the README block of a component: what it does, a docker line with the required flags, all flags."""
    declared = fields(contract)
    required = [f"  {f.flag} {_example(contract, f)}" for f in declared if f.required]
    lines = [
        f"{contract.__doc__}",
        "",
        "```sh",
        " \\\n".join([f'docker run --rm --user "$(id -u):$(id -g)" -v /data:/data {tag(contract.NAME)}', *required]),
        "```",
        "",
        "| flag | default | meaning |",
        "| --- | --- | --- |",
    ]
    for f in declared:
        kind = {"parameter": "", "input": "input: ", "output": "output: "}[f.role]
        text = kind + f.help + (f" ({' | '.join(f.choices)})" if f.choices else "")
        lines.append(f"| `{f.flag}` | {_default(f)} | {text.replace('|', ESCAPED)} |")
    return "\n".join(lines)


def rewritten(readme: str) -> str:
    """Replace the blocks between `<!-- contract:NAME -->` and `<!-- end -->` in the text of README.md.

    Raises:
        DataError: a component has no block.
    """
    for name, component in COMPONENTS.items():
        start, end = f"<!-- contract:{name} -->", "<!-- end -->"
        pattern = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(readme):
            raise DataError(f"{README_PATH}: no block {start} ... {end}. Add the two lines")
        text = f"{start}\n{block(component.contract)}\n{end}"
        readme = pattern.sub(lambda _, text=text: text, readme)
    return readme
