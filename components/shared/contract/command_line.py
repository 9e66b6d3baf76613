"""The command line of a component: made from its contract, and its run from the flags to the exit code."""

import argparse
import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

from components.shared import errors, interrupts, runlog, storage
from components.shared.contract import Contract, executor, fields, task_record
from components.shared.contract.field import JSON_TYPES


def parser(contract: type[Contract]) -> argparse.ArgumentParser:
    """Build the command line of a component: long flags only, no abbreviations, unknown flags fail."""
    result = argparse.ArgumentParser(
        prog=f"python -m components.{contract.NAME}",
        description=contract.__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    groups = {
        role: result.add_argument_group(title)
        for role, title in (("parameter", "parameters"), ("input", "input artifacts"), ("output", "output artifacts"))
    }
    for f in fields(contract):
        shown = "required" if f.required else f"default {f.render(f.default)!r}"
        unit = f"{f.unit}, " if f.unit else ""
        if f.choices:
            metavar = "{" + ",".join(f.choices) + "}"
        elif f.names:
            metavar = "NAME[+SWITCH...]"
        elif f.role != "parameter":
            metavar = "PATH[,PATH...]" if f.is_list else "PATH"
        else:
            metavar = "JSON" if f.type in JSON_TYPES else f.type.__name__.upper()
        groups[f.role].add_argument(
            f.flag,
            dest=f.name,
            metavar=metavar,
            required=f.required,
            default=argparse.SUPPRESS,
            help=f"{f.help} ({unit}{shown})".replace("%", "%%"),
        )
    result.add_argument(
        "--executor-input",
        metavar="JSON",
        default="",
        help="set by Kubeflow: where to write executor_output.json, without which the UI shows no metrics",
    )
    return result


def _join_values(contract: type[Contract], argv: list[str]) -> list[str]:
    """Write `--flag value` of texts as `--flag=value`: argparse takes a value such as `--streaming` for a flag."""
    flags = {f.flag for f in fields(contract)}
    texts = {f.flag for f in fields(contract) if f.type is str or f.is_list}
    words: list[str] = []
    for word in argv:
        if words and words[-1] in texts and word not in flags:
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def parse(contract: type[Contract], argv: list[str]) -> tuple[Any, dict[str, Any]]:
    """Read a command line.

    Returns:
        The contract instance and the decoded executor input (`{}` when there is none).

    Raises:
        UsageError: a value is ill-typed or out of range. Unknown or missing flags end the process with 2.
    """
    given = vars(parser(contract).parse_args(_join_values(contract, argv)))
    executor_input = executor.decode(given.pop("executor_input"))
    values = {}
    for f in fields(contract):
        # Kubeflow has no placeholder for the paths of a list: what stands in the flag there is not a path.
        if f.is_list and (paths := executor.list_paths(executor_input, f.name)):
            values[f.name] = paths
        elif f.name in given:
            values[f.name] = f.parse(given[f.name])
    return contract(**values), executor_input


def _check_gpus(config: Any) -> None:
    """Refuse GPUs that cannot be there before the imports that take longer than the answer.

    Raises:
        UsageError: GPUs are asked for and the system shows no NVIDIA device, nor WSL's.
    """
    gpus = getattr(config, "gpus", 0)
    if gpus and not [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("dxg")]:
        raise errors.UsageError(
            f"--gpus: asked for {gpus}, found 0 (no NVIDIA device under /dev). "
            "Ask for --gpus 0, or check the driver and the container's GPU runtime"
        )


def _cause(error: BaseException) -> dict[str, str]:
    """Return the chain of errors that led to one, the nearest first, as a field of its log line."""
    links: list[str] = []
    while cause := error.__cause__:
        links.append(f"{type(cause).__name__}: {cause}")
        error = cause
    return {"cause": "; from ".join(links)} if links else {}


def _report(error: Exception, log: runlog.RunLog) -> int:
    """Log the error that ended a component and return its exit code."""
    if (message := interrupts.received()) and not isinstance(error, errors.Interrupted):
        log.error(message, consequence=f"{type(error).__name__}: {error}")
        return errors.Interrupted.exit_code
    if isinstance(error, errors.AlexNetError):
        log.error(str(error), **_cause(error))
        return error.exit_code
    # The top of the process: a bug is reported as one, with its traceback.
    log.error(f"bug: {type(error).__name__}: {error}", traceback="".join(traceback.format_exception(error)))
    return errors.BUG


def run(contract: type[Contract], target: str) -> NoReturn:
    """Run a component from the command line and exit with its code.

    Args:
        contract: the component's contract.
        target: `module:function`, imported only after the flags are checked. The function takes the contract
            instance and returns the metadata of its output artifacts, `{artifact: {key: number or string}}`.
    """
    log = runlog.RunLog(contract.NAME)
    try:
        interrupts.begin(contract.NAME)
        config, executor_input = parse(contract, sys.argv[1:])
        _check_gpus(config)
        for f in fields(contract):
            if f.role == "output":
                storage.make_parent(Path(getattr(config, f.name)))
        task_record.write(contract.NAME, getattr(config, "root_uri", ""), executor_input, log)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        module, function = target.split(":")
        metadata = getattr(importlib.import_module(module), function)(config)
        executor.write_output(executor_input, metadata)
        interrupts.end()
        code = errors.OK
    except Exception as error:
        interrupts.end()
        code = _report(error, log)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)
