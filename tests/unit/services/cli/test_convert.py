"""`palimpsest convert`, as far as it goes without torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.main import main
from tests.support.source_tree import ROOT
from tests.support.waiting import TIMEOUT_S, wait_for


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("PALIMPSEST_URL", "PALIMPSEST_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["palimpsest", "convert", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("missing", ["torch", "pydantic"])
def test_without_torch_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    (folder / "model.pt").write_bytes(b"x")
    (folder / "light").mkdir()
    (folder / "light" / f"{missing}.py").write_text(
        f"raise ModuleNotFoundError(\"No module named '{missing}'\")"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder / "light"))
    assert run(monkeypatch, "model.pt") == 1
    assert capsys.readouterr().err == (
        f"palimpsest: convert needs {missing}, which is not installed beside palimpsest: "
        "pip install 'palimpsest[worker]'\n"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["light", "model.pt"]


@pytest.mark.parametrize(
    ("death", "message"),
    [
        (signal.SIGBUS, "ended the converter by signal 7: it is damaged, or hostile"),
        (signal.SIGXCPU, "took more processor time than a checkpoint of its size needs"),
    ],
)
def test_a_converter_that_dies_is_one_sentence(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    death: signal.Signals,
    message: str,
) -> None:
    """And what it had begun to write is removed."""
    (folder / "model.pt").write_bytes(b"x")
    (folder / "light").mkdir()
    (folder / "light" / "torch.py").write_text(
        "import os, pathlib\n"
        "pathlib.Path(f'.palimpsest-{os.getpid()}.part').write_text('half')\n"
        f"os.kill(os.getpid(), {death.value})\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder / "light"))
    assert run(monkeypatch, "model.pt") == 1
    assert capsys.readouterr().err == f"palimpsest: model.pt {message}\n"
    assert sorted(path.name for path in folder.iterdir()) == ["light", "model.pt"]


def test_a_converter_that_does_not_end_is_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "model.pt").write_bytes(b"x")
    (folder / "light").mkdir()
    (folder / "light" / "torch.py").write_text("import time\nwhile True: time.sleep(1)\n")
    monkeypatch.setenv("PYTHONPATH", str(folder / "light"))
    monkeypatch.setattr("services.cli.commands.convert.MIN_TIMEOUT_S", 1)
    assert run(monkeypatch, "model.pt") == 1
    assert "model.pt was not converted within 1 s" in capsys.readouterr().err


def test_ctrl_c_stops_the_converter(folder: Path) -> None:
    (folder / "model.pt").write_bytes(b"x")
    (folder / "light").mkdir()
    (folder / "light" / "torch.py").write_text(
        "import os, pathlib, time\n"
        "pathlib.Path('light/began').write_text(str(os.getpid()))\n"
        "pathlib.Path('light/began').rename('light/pid')\n"
        "while True: time.sleep(1)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "convert", str(folder / "model.pt")],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder / 'light'}"},
        stderr=subprocess.PIPE,
        text=True,
    )
    pid_file = folder / "light" / "pid"
    wait_for(pid_file.exists, TIMEOUT_S, "the converter has started")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, "was not converted" in err) == (130, True), err
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.pt"], "there is no file none.pt"),
        (["."], "there is no file ."),
        (["model.safetensors"], "model.safetensors ends in .safetensors already: give --output"),
        ([], "Missing argument"),
    ],
)
def test_wrong_use(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    (folder / "model.safetensors").write_bytes(b"x")
    assert run(monkeypatch, *words) == 2
    assert message in capsys.readouterr().err
