"""The `alexnet` command: what it refuses, how it says so, and with which exit code."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import PROJECT_DIR, alexnet

from pipeline import images
from pipeline.commands.alexnet import COMMANDS, main


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ("lerning_rate=1", "num_epochs"),  # the known ones are listed
        ("num_epochs=many", "a number of type int"),
        ("num_epochs=-1", "at least 0"),
        ("recipe=resnet", "alexnet-2012, alexnet-2012-paper, smoke"),
        ("recipe=smoke+resnet", "+no-lrn, +plain-pool"),
        ("patches=maybe", "auto, required, waived"),
        ("num_epochs", "NAME=VALUE"),
    ],
)
@pytest.mark.slow
def test_a_wrong_parameter_is_a_usage_error(tmp_path, parameter, expected):
    done = alexnet("run", "--root", tmp_path / "root", "--param", parameter)
    assert done.returncode == 2
    assert expected in done.stderr
    assert parameter.partition("=")[0] in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "root").exists()


@pytest.mark.slow
def test_alexnet_alone_lists_every_command_in_one_line_of_80_columns():
    alone, asked = alexnet(), alexnet("--help")
    assert (alone.returncode, alone.stdout) == (asked.returncode, asked.stdout) == (0, alone.stdout)
    for modules in COMMANDS.values():
        for module in modules:
            name = module.__name__.rpartition(".")[2]
            (line,) = [line for line in alone.stdout.splitlines() if line.startswith(f"  {name} ")]
            assert len(line) <= 80
            assert len(line.split()) > 2
    assert alexnet("--version").stdout.strip() == f"alexnet {images.version()}"


def test_an_unknown_flag_is_a_usage_error():
    assert alexnet("run", "--relaese", "x").returncode == 2


@pytest.mark.slow
def test_a_missing_release_fails_at_once(tmp_path):
    done = alexnet("run", "--root", tmp_path / "root", "--release", tmp_path / "nothing", "--json")
    assert done.returncode == 1
    assert str(tmp_path / "nothing") in done.stderr
    result = json.loads(done.stdout)
    assert result["status"] == "failed"
    assert str(tmp_path / "nothing") in result["error"]


@pytest.mark.slow
def test_an_unwritable_root_fails_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    done = alexnet("run", "--root", tmp_path / "file" / "root")
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr


def test_the_command_starts_without_the_heavy_libraries():
    heavy = ("tensorflow", "apache_beam", "numpy", "kfp", "kfp_server_api", "kubernetes", "urllib3", "docker")
    code = f"import sys, pipeline.commands.alexnet; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_DIR)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_describe_prints_the_network():
    done = alexnet("describe", "--recipe", "alexnet-2012", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["num_parameters"] == 60_965_224


@pytest.mark.parametrize(
    "module", [module for modules in COMMANDS.values() for module in modules], ids=lambda m: m.__name__
)
def test_the_help_of_a_command_is_that_of_the_overview(module, capsys):
    name, _, text = module.__doc__.splitlines()[0].removeprefix("`alexnet ").partition("`: ")
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    assert " ".join(text.split()) in " ".join(capsys.readouterr().out.split())


def test_main_returns_its_code_and_restores_the_handler(tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert main(["status", "nothing", "--root", str(tmp_path)]) == 2
    assert "there are none" in capsys.readouterr().err
    assert main([]) == 0
    assert "COMMAND" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is before


def completions(words):
    """Ask bash, which has read the script, how it would complete the last of these words."""
    script = alexnet("completion", "bash")
    assert script.returncode == 0, script.stderr
    ask = f"""
        COMP_WORDS=({" ".join(words)}) COMP_CWORD={len(words) - 1}
        _shtab_alexnet alexnet "${{COMP_WORDS[-1]}}" "${{COMP_WORDS[-2]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    bash = ["bash", "--norc", "-c", f"{script.stdout}\n{ask}"]
    done = subprocess.run(bash, capture_output=True, text=True, check=True, cwd=PROJECT_DIR)
    return done.stdout.split()


@pytest.mark.slow
def test_bash_completes_commands_and_flags():
    assert completions(["alexnet", "ru"]) == ["run", "runs"]
    assert completions(["alexnet", "run", "--op"]) == ["--open"]
    assert completions(["alexnet", "run", "--runner", "d"]) == ["docker"]
    assert completions(["alexnet", "gc", "--root", "pipel"]) == ["pipeline"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
@pytest.mark.slow
def test_the_completion_is_a_script_of_the_shell(shell):
    script = alexnet("completion", shell)
    assert (script.returncode, "alexnet" in script.stdout) == (0, True)
    if shutil.which(shell) and shell != "tcsh":
        subprocess.run([shell, "-n"], input=script.stdout, text=True, check=True)
    assert "eval" in alexnet("completion", "--help").stdout


@pytest.mark.parametrize("there", [True, False])
def test_a_report_opens_in_the_browser(tmp_path, there):
    browser, report = tmp_path / "browser", tmp_path / "a report.html"
    if there:
        browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened\n')
        browser.chmod(0o755)
    environment = {"BROWSER": str(browser), "PYTHONPATH": str(PROJECT_DIR), "PATH": str(tmp_path)}
    code = "import sys; from pipeline.commands.run import open_report; open_report(sys.argv[1])"
    command = [sys.executable, "-c", code, str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    if there:
        assert (tmp_path / "opened").read_text() == report.as_uri()
    assert (report.as_uri() in done.stderr) != there


def test_the_end_of_a_pipe_is_no_error():
    command = f"{sys.executable} -m pipeline.commands.alexnet completion bash | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
