"""Merge an adapter into a model's folder: `python -m tools.export --adapter ADAPTER`.

`make export ADAPTER=…` calls it. The folder goes into the run's export/.
"""

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):  # called by its path, from whatever folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from helpers import InputError, one_line
from helpers.files import from_root


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="export", description="Merge an adapter into a model's folder."
    )
    parser.add_argument("--adapter", help="an adapter's folder; default: best on val, newest run")
    parser.add_argument("--profile", help="the run whose best adapter is merged")
    given = parser.parse_args(arguments)
    from helpers import export, settings  # loads torch for seconds: once the arguments are sound

    try:
        adapter = settings.adapter_of(given.adapter, given.profile)
        print(f"▶ merging {adapter}", flush=True)
        folder = export.export_model(adapter)
    except InputError as error:
        sys.exit(f"✗ {error}")
    except OSError as error:  # a name that is too long, a file that may not be read
        sys.exit(f"✗ {one_line(error)}")
    except KeyboardInterrupt:
        sys.exit("✗ interrupted; nothing was written")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"✓ {from_root(folder)}: {size / 2**30:.2f} GiB; its README.md says how it is asked")


if __name__ == "__main__":
    main()
