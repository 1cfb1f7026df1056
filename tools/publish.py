"""Build the HTML book from a staged site, treating warnings as errors.

`python tools/publish.py SITE CONFIG HTML`
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path


def mend(html: Path) -> None:
    """Take the role of a list away from bibliographies.

    Docutils calls a bibliography a list but its entries no list items, so that a screen reader
    would announce an empty list.

    Args:
        html: the folder of pages.
    """
    for page in html.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(
            text.replace('<div role="list" class="citation-list">', '<div class="citation-list">'),
            encoding="utf-8",
        )


def main(site: Path, config: Path, html: Path) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=".html-", dir=html.parent))
    try:
        command = [
            sys.executable,  # not the script jupyter-book: it names the folder of its installation
            "-c",
            "from jupyter_book.cli.main import main; main()",
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
            sys.exit(
                f"{built.stdout}\n✗ jupyter-book build failed ({built.returncode}); "
                "its warnings above are errors here"
            )
        mend(scratch / "_build" / "html")
        shutil.rmtree(html, ignore_errors=True)
        shutil.move(scratch / "_build" / "html", html)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
