"""Run one notebook with parameters: `python -m helpers.notebooks NOTEBOOK OUTPUT --parameters
JSON`.

Names and types of the parameters are checked before anything runs, and output is shown as it comes.
A failure ends in one line and leaves OUTPUT untouched. Bad input leaves nothing behind; after any
other failure, what ran until then lies beside OUTPUT as *.failed.ipynb.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from traitlets.config import Config

from helpers import ROOT, InputError, leave
from helpers.files import read_json
from helpers.parameters import refuse_wrong

LONGEST_ADDRESS = 100
"""The most bytes of a socket's file name: macOS allows 103, and jupyter_client appends a number."""


def run_notebook(notebook: Path, output: Path, parameters: dict) -> None:
    """Execute a notebook with parameters.

    Args:
        notebook: the notebook as it is committed.
        output: the file of the executed notebook, which is written whole or not at all.
        parameters: by name; they are first checked against the notebook's parameters cell.

    Raises:
        InputError: for a wrong parameter or a cell that failed.
    """
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    import papermill
    from papermill.exceptions import PapermillExecutionError

    known = papermill.inspect_notebook(str(notebook))
    try:
        refuse_wrong(
            parameters, {name: parameter["inferred_type_name"] for name, parameter in known.items()}
        )
    except InputError as error:
        raise InputError(f"{notebook.stem}: {error}") from None
    # the kernel uses this project's helpers, whichever checkout was installed last
    os.environ["PYTHONPATH"] = os.pathsep.join(
        dict.fromkeys(
            [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        )
    )
    # set in a reader's shell, they would hide figures, run other code, start another kernel, or
    # list figures twice (JupyterLab sets the last for a cell that calls make)
    for name in ("MPLBACKEND", "PYTHONSTARTUP", "JUPYTER_PATH", "JPY_SESSION_NAME"):
        os.environ.pop(name, None)
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = output.with_suffix(".failed.ipynb")
    try:
        with tempfile.TemporaryDirectory() as folder:
            papermill.execute_notebook(
                str(notebook),
                str(scratch),
                parameters,
                kernel_name="python3",
                cwd=str(ROOT / "notebooks"),
                progress_bar=False,
                log_output=False,
                stdout_file=sys.stdout,
                stderr_file=sys.stderr,
                # an empty folder, so that no configuration or start-up file of a reader applies
                extra_arguments=["--log-level=40", f"--ipython-dir={folder}"],
                config=kernel_sockets(folder),
            )
    except PapermillExecutionError as error:
        if error.ename == "InputError":
            scratch.unlink()
            raise InputError(f"{output.stem}: {error.evalue}") from None
        message = f"{error.ename}: {' '.join(error.evalue.split())[:300]}"
        raise InputError(
            f"{output.stem}, cell {error.exec_count}: {message} (the run until there: {scratch})"
        ) from None
    strip_paths(scratch)
    scratch.replace(output)


def kernel_sockets(folder: str) -> Config:
    """A configuration that reaches a kernel through sockets in files, where the system has them.

    For other sockets, jupyter_client picks free ports before the kernel binds them. Two kernels
    that start at the same time may then get the same port, and one of them fails.

    Args:
        folder: an empty one, for this kernel alone.
    """
    address = os.path.join(folder, "kernel")
    if os.name == "nt" or len(os.fsencode(address)) > LONGEST_ADDRESS:
        return Config()
    return Config({"KernelManager": {"transport": "ipc", "ip": address}})


def strip_paths(notebook: Path) -> None:
    """Reduce papermill's record to what a reader may see: parameters and times, but no paths."""
    content = read_json(notebook)
    record = content["metadata"]["papermill"]
    content["metadata"]["papermill"] = {
        name: record[name] for name in ("parameters", "start_time", "end_time", "duration")
    }
    notebook.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--parameters", type=json.loads, default={})
    arguments = parser.parse_args()
    # written in one piece, line end included, for two notebooks may begin at the same time
    print(f"▶ {arguments.output.stem}\n", end="", flush=True)
    try:
        run_notebook(arguments.notebook, arguments.output, arguments.parameters)
    except InputError as error:
        leave(f"✗ {error}")
    except KeyboardInterrupt:
        sys.exit(f"✗ {arguments.output.stem}: interrupted; finished steps are kept")


if __name__ == "__main__":
    main()
