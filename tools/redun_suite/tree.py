"""Where the suite runs: a copy of redun, since its tests write beside themselves, and what they import."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

__all__ = ["Tree", "prepare"]

_REQUIREMENTS = Path(__file__).with_name("requirements.txt")
_PROJECT = Path(__file__).parents[2]
_COMMAND = """#!{python}
import sys
{rebind}from redun.cli import main
sys.exit(main())
"""


class Tree:
    """The prepared folder.

    Parameters
    ----------
    folder
        Under build/.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.root = self.folder / "tree"
        self.site = self.folder / "site"
        self.state = self.folder / "state"

    def results(self, kind: str) -> Path:
        """Return the folder of reports of one kind of run, made if need be."""
        folder = self.folder / f"results-{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def environment(self, *, own: bool) -> dict[str, str]:
        """Return the environment of a run; `own` for redun's own backend."""
        commands = self.folder / ("bin-own" if own else "bin")
        temporary = self.state / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        return {
            **os.environ,
            "PATH": f"{commands}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": os.pathsep.join([str(self.root), str(self.site), str(_PROJECT)]),
            "EVENTSTORE_STATE": str(self.state),
            "TMPDIR": str(temporary),
            "PYTHONDONTWRITEBYTECODE": "1",
            # Runs are tagged with the commit of the repository around them: there is to be none.
            "GIT_CEILING_DIRECTORIES": str(self.folder),
        }


def prepare(folder: Path) -> Tree:
    """Copy redun and install what its tests need, unless both are there already."""
    tree = Tree(folder)
    stamp = tree.folder / "ready"
    wanted = f"{version('redun')}\n{_REQUIREMENTS.read_text()}"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(tree.site, ignore_errors=True)
        tree.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--target", str(tree.site), "--requirement", str(_REQUIREMENTS)]
        subprocess.run(command, check=True)
        stamp.write_text(wanted)
    # Always a fresh copy: what an earlier run left there must not be found.
    shutil.rmtree(tree.root, ignore_errors=True)
    found = importlib.util.find_spec("redun")
    assert found is not None
    assert found.origin is not None
    shutil.copytree(
        Path(found.origin).parent, tree.root / "redun", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name, rebind in (("bin", "import tools.redun_suite.rebinding\n"), ("bin-own", "")):
        command_file = tree.folder / name / "redun"
        command_file.parent.mkdir(exist_ok=True)
        command_file.write_text(_COMMAND.format(python=sys.executable, rebind=rebind))
        command_file.chmod(0o755)
    return tree
