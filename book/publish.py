"""Build the HTML book from a staged site, warnings as errors: `python book/publish.py SITE CONFIG HTML`."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def main(site: Path, config: Path, html: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".html-", dir=html.parent))
    try:
        command = [
            str(Path(sys.executable).with_name("jupyter-book")),
            "build",
            str(site),
            "--config",
            str(config),
            "--path-output",
            str(scratch),
            "-W",
            "-n",
            "--keep-going",
            "-q",
        ]
        print("▶ jupyter-book build", flush=True)
        built = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if built.returncode:
            sys.exit(f"{built.stdout}\n✗ jupyter-book build failed ({built.returncode}); its warnings above are errors here")
        shutil.rmtree(html, ignore_errors=True)
        shutil.move(scratch / "_build" / "html", html)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
