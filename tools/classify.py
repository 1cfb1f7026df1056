"""Answer the articles of a file: `python -m tools.classify --file my.xlsx --out answers.csv`.

`make classify FILE=my.xlsx OUT=answers.csv` calls it. The table keeps the file's own columns and
adds answer, probability, second, second_probability, look and note.
"""

import argparse
import os
import sys
from pathlib import Path

if __package__ in (None, ""):  # called by its path, from whatever folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from helpers import InputError, one_line
from helpers.files import from_here, from_root
from helpers.parameters import read_yaml


def file_to_write(name: str | None) -> Path | None:
    """The path of a file to write: below the current folder unless absolute; ~ is one's home."""
    return Path(os.path.expanduser(name)).absolute() if name else None


def mapping(text: str) -> dict:
    """The value of --columns, which is JSON or YAML."""
    try:
        value = read_yaml(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid YAML: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} maps nothing; write '{{text: content}}'")
    return value


def share(text: str) -> float:
    """The value of --target, which is a number."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; 2 % is 0.02") from None


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line's arguments; None stands for those of this process."""
    parser = argparse.ArgumentParser(prog="classify", description="Answer the articles of a file.")
    parser.add_argument(
        "--file", required=True, help="one file of articles: .xlsx, .csv, .jsonl, …"
    )
    parser.add_argument("--adapter", help="an adapter's folder; default: best on val, newest run")
    parser.add_argument("--profile", help="the run whose best adapter answers")
    parser.add_argument("--out", help=".csv, .xlsx or .jsonl; default: in the run's answers/")
    parser.add_argument("--columns", type=mapping, help="such as '{text: content}'")
    parser.add_argument("--sheet", help="of a workbook; default: its first")
    parser.add_argument("--target", type=share, default=0.1, help="error among unseen answers")
    parser.add_argument("--review", help="an .xlsx file for the rows that a person should see")
    parser.add_argument("--method", choices=("hybrid", "model"))
    parser.add_argument("--on-bad-row", choices=("look", "error"), default="look")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    given = parse(arguments)
    from helpers import classify  # loads torch for seconds: only once the arguments are sound
    from helpers.classifier import Classifier
    from helpers.settings import adapter_of

    try:
        adapter = adapter_of(given.adapter, given.profile)
        classifier = Classifier(adapter, given.method, given.target)
        print(f"▶ {given.file} · adapter {from_root(classifier.adapter)} ({classifier.method})")
        report = classify.classify_file(
            classifier,
            from_here(given.file),
            file_to_write(given.out),
            given.columns,
            given.sheet,
            file_to_write(given.review),
            given.on_bad_row,
        )
    except InputError as error:
        sys.exit(f"✗ {error}")
    except OSError as error:  # a name that is too long, a file that may not be read
        sys.exit(f"✗ {one_line(error)}")
    except KeyboardInterrupt:
        sys.exit("✗ interrupted; what was answered is kept: the same command goes on from there")
    for name, rows, right, low, high in report.by_answer.itertuples(index=False):
        print(f"  {name}: {right} of {rows} right ({100 * low:.0f} – {100 * high:.0f} %)")
    print(f"✓ {from_root(report.out)}: {report.about()}")


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a file's name may not be valid text
    main()
