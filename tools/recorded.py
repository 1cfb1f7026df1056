"""Measurements that were made once and kept in book/results, as Markdown for the book's pages."""

import pandas as pd

from helpers.budgets import ASIDE_GIB
from helpers.files import read_json
from helpers.parameters import without_seed
from helpers.templating import KEPT
from tools.results import RESULTS, markdown_table, result_rows
from tools.results import cell as result_cell


def read_results(name: str) -> dict | None:
    """The results that were recorded under a name; None where there are none."""
    file = RESULTS / f"{name}.json"
    return read_json(file) if file.is_file() else None


def corpus_runs() -> dict[str, dict]:
    """The records of runs on the real corpus by name, its main run before the variants."""
    files = sorted(RESULTS.glob("*.json"), key=lambda file: file.stem)
    records = {file.stem: read_json(file) for file in files}
    return {
        name: record
        for name, record in records.items()
        if "metrics" in record and not record["packaged"]  # the sample's are for the READMEs
    }


def place_runs(page: str) -> str:
    """Fill the marks of recorded runs in a page, such as `{{ fudan answer }}`; see `run_parts`.

    Parts that the page does not name are folded at `{{ fudan rest }}`. A run that the page does not
    name at all gets a section of its own at `{{ other_runs }}`.

    Args:
        page: in Markdown.
    """
    if "{{ other_runs }}" not in page:
        return page

    def mark(run: str, part: str) -> str:
        return f"{{{{ {run} {part} }}}}"

    runs, others = corpus_runs(), []
    for name, record in runs.items():
        if f"{{{{ {name} " not in page:
            others.append(f"## {record['title']}")
            others += [mark(name, part) for part in ("answer", "results", "rest")]
    page = page.replace("{{ other_runs }}", "\n\n".join(others))
    for name, record in runs.items():
        parts = run_parts(record)
        rest = [text for part, text in parts.items() if mark(name, part) not in page]
        parts["rest"] = "\n\n".join(
            ["````{dropdown} What else this run measured, and how", *filter(None, rest), "````"]
        )
        for part, text in parts.items():
            page = page.replace(mark(name, part), text)
    return page


def study_sentence() -> str:
    """The study's own claim on this corpus, with the intervals that its ten rows allow."""
    from helpers.verdicts import study_intervals

    said = study_intervals()
    return (
        "The study compared {study_rows} rows. None was right before its training, and "
        "{right} were right after it. Ten rows say little. By the same intervals as below, the "
        "untouched model may have been right on up to {study_before_high:.0f} % of all rows, and "
        "the tuned one on {study_after_low:.0f} to {study_after_high:.0f} %."
    ).format(right=round(said["study_after"] * said["study_rows"] / 100), **said)


def run_parts(record: dict) -> dict[str, str]:
    """What one recorded run measured, by the names that marks use, as Markdown.

    Args:
        record: see results.record.

    Returns:
        The parts in the order in which a reader needs them; empty where nothing was measured.
    """
    metrics = record["metrics"]
    return {
        "answer": answer(record),
        "results": corpus_table(metrics),
        "trainings": trainings_table(record.get("trainings", {})),
        "rare": rare_table(metrics.get("rare", {})),
        "curve": curve_table(metrics.get("curve", {})),
        "header": header_table(metrics.get("header", {})),
        "picture": corpus_picture(record),
        "decisions": decision_table(metrics.get("decisions", {})),
        "cascade": cascade_table(metrics.get("cascade", {})),
        "pairs": pair_lines(metrics),
        "facts": facts(record),
    }


def facts(record: dict) -> str:
    """When, on what and with which rows a run was made, as Markdown.

    Args:
        record: see results.record.
    """
    summary = record["summary"]
    # not Qwen's, with which chapter 1 counts, too; it may come first, as records sort by name
    model, tokens = next(pair for pair in summary["tokens"].items() if pair[0] != "Qwen")
    counts = ", ".join(f"{count:,} {split}" for split, count in summary["rows"].items())
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [
        f"{record['title']}, measured on {record['date']}: {record['device']}.",
        "",
        f"* Rows: {counts}; {summary['classes']} classes.",
        f"* Length: half of the rows have more than {tokens['median']:,} tokens, "
        f"the longest {tokens['max']:,} (tokenizer of {model}). {ten_rows(summary['longer'])}",
        *(f"* {key}: {value}" for key, value in record["settings"].items()),
        f"* Versions: {versions}.",
    ]
    return "\n".join(lines)


def answer(record: dict) -> str:
    """What a run's trainings came to beside the linear SVM and one another, in sentences.

    Args:
        record: see results.record.
    """
    from helpers.metrics import score_shares  # slow to load

    metrics = record["metrics"]
    shares = score_shares(metrics)
    said = {
        name: verdict
        for name, verdict in svm_verdicts(metrics).items()
        if not name.endswith(" + svm")
    }
    right = [100 * shares[name]["accuracy"] for name in said]
    rows, svm = f"{shares['tfidf_svm']['n']:,}", f"{100 * shares['tfidf_svm']['accuracy']:.1f} %"
    if len(said) == 1:
        ((name, (words, p)),) = said.items()
        return (
            f"By `score`, {name} is right on {right[0]:.1f} % of the {rows} test rows, and the "
            f"linear SVM on {svm}. So {name} {words} the linear SVM (p = {p:.2g})."
        )
    better, worse = (
        [name for name, verdict in said.items() if verdict[0] == words]
        for words in ("is better than", "is worse than")
    )
    return " ".join(
        [
            f"By `score`, the {len(said)} trainings are right on {min(right):.1f} to "
            f"{max(right):.1f} % of the {rows} test rows, and the linear SVM on {svm}.",
            f"Of them, {len(better) or 'none'} can be told to be better than it{listed(better)}, "
            f"and {len(worse) or 'none'} to be worse{listed(worse)}.",
            *told_apart(metrics["mcnemar"], dict(zip(said, right))),
            *length_costs(record.get("trainings", {})),
        ]
    )


def listed(names: list[str]) -> str:
    """Names in brackets; empty where there are none."""
    return f" ({', '.join(names)})" if names else ""


def told_apart(tests: list[dict], right: dict[str, float]) -> list[str]:
    """A sentence on the pairs of settings that McNemar's test tells apart; none without a pair.

    Args:
        tests: of pairs, as eval/metrics.json has them.
        right: how much each setting has right.
    """
    from helpers.verdicts import in_words  # slow to load

    own = {name: without_seed(name) for name in right}
    pairs = [
        pair
        for pair in tests
        if {pair["a"], pair["b"]} <= own.keys() and own[pair["a"]] != own[pair["b"]]
    ]
    apart = []
    for pair in pairs:
        first, second = sorted((pair["a"], pair["b"]), key=right.get, reverse=True)
        words = in_words(pair["p"], right[first] - right[second])
        if words == "is better than":
            apart.append(f"{first} {words} {second} (p = {pair['p']:.2g})")
    said = f"Of {len(pairs)} pairs of them that we tested, {len(apart) or 'none'} can be told apart"
    return [": ".join(filter(None, [said, " and ".join(apart)])) + "."] if pairs else []


def length_costs(trainings: dict[str, dict]) -> list[str]:
    """A sentence on what the longest rows cost over the shortest; none if all are of one length.

    Args:
        trainings: see `trainings_table`.
    """
    own = [one for one in trainings.values() if one.get("max_length") and one.get("peak_gib")]
    own.sort(key=lambda one: one["max_length"])
    if not own or own[0]["max_length"] == own[-1]["max_length"]:
        return []
    times = {key: own[-1][key] / own[0][key] for key in ("minutes", "peak_gib")}
    return [
        f"Rows of {own[-1]['max_length']:,} tokens took {times['minutes']:.1f} times the minutes "
        f"of rows of {own[0]['max_length']:,}, and {times['peak_gib']:.1f} times the memory."
    ]


def corpus_table(metrics: dict) -> str:
    """Right answers of everyone, and what McNemar's test says beside the linear SVM."""
    brief = {"is better than": "better", "is worse than": "worse"}
    said = {
        name: f"{brief.get(words, 'not told apart')} ({p:.2g})"
        for name, (words, p) in svm_verdicts(metrics).items()
    }
    lines = [
        f"| {name} | {generate} | {score} | {said.get(name, '')} |"
        for name, generate, score in result_rows(metrics)
    ]
    title = "Right answers on the test rows, % (95 % Wilson interval), and McNemar's test at 5 %:"
    return titled_table(title, "| | generate | score | beside the SVM (p) |", lines)


def pair_lines(metrics: dict) -> str:
    """The p of every pair that was tested, as Markdown."""
    lines = [f"* {pair['a']} and {pair['b']}: p = {pair['p']:.2g}" for pair in metrics["mcnemar"]]
    return "\n".join(["Exact McNemar tests by `score`, every pair:", "", *lines])


def titled_table(title: str, head: str, lines: list[str]) -> str:
    """A table in Markdown below its title; empty where it has no lines.

    Args:
        title: the paragraph above it.
        head: the line that names its columns.
        lines: all others.
    """
    return f"{title}\n\n{markdown_table(head, lines)}" if lines else ""


def ten_rows(longer: dict[str, float]) -> str:
    """How often ten rows drawn blindly, as the study drew its own, hold none beyond 4,096 tokens.

    Args:
        longer: the share of rows that are longer than each limit, by the limit as text.
    """
    if (share := longer.get("4096")) is None:
        return ""
    return (
        f"{100 * share:.0f} % have more than 4,096, so ten rows drawn blindly hold none of "
        f"these in {100 * (1 - share) ** 10:.1f} % of draws."
    )


def corpus_picture(record: dict) -> str:
    """The recorded picture of a run as Markdown; empty where it has none."""
    name = record.get("run")
    if not name or not (RESULTS / f"{name}.svg").is_file():
        return ""
    curve = bool(record["metrics"].get("curve"))
    first = "accuracy of model and linear SVM over the training rows read, " if curve else ""
    return (
        f"```{{figure}} {name}.svg\n:alt: Panels: {first}accuracy over seconds of training, and "
        "accuracy of the cascade over the share of rows that the model is asked.\n"
        f":name: fig-{name}\n"
        f"{'Who learns faster, what' if curve else 'What'} the seconds buy, and how a cascade of "
        "both does. The bars are 95 % Wilson intervals, and a hollow mark is a setting together "
        "with the linear SVM.\n```"
    )


def trainings_table(trainings: dict[str, dict]) -> str:
    """How each setting was trained and what that cost; settings with the shortest rows first."""
    lines = []
    for name, own in sorted(trainings.items(), key=lambda one: one[1].get("max_length") or 0):
        measured = [own.get("minutes"), own.get("peak_gib")]
        measured = ["–" if value is None else f"{value:.1f}" for value in measured]
        tokens = f"{own['max_length']:,}" if own.get("max_length") else "none"
        said = [name, own.get("template") or "none", own.get("rank") or "none", tokens]
        steps = "–" if own["steps"] is None else own["steps"]  # None where epochs are counted
        said += [KEPT[own.get("cut") or "head"], steps, own["seed"], *measured]
        lines.append("| " + " | ".join(map(str, said)) + " |")
    columns = "setting, template, rank, tokens, read of a long article, steps, seed, minutes, GiB"
    head = f"| {columns.replace(', ', ' | ')} |"
    return titled_table("How the settings were trained:", head, lines)


def curve_table(curves: dict[str, list[dict]]) -> str:
    """Who learns faster: the accuracy of the model and of the SVM after parts of the training."""
    lines, asked = [], set()
    for setting, points in curves.items():
        for point in points:
            asked.add(point["n"])
            svm = f"{100 * point['svm']:.1f}" if point.get("svm") is not None else "–"
            share = result_cell(point)
            own = f"| {setting} " if len(curves) > 1 else ""
            lines.append(f"{own}| {point['step']} | {point['rows']:,} | {share} | {svm} |")
    title = (
        f"Learning curve of {', '.join(curves)} on {' or '.join(map(str, sorted(asked)))} test "
        "rows. The SVM learned from as many rows as the model had read, always the first ones of "
        "the training file:"
    )
    head = "| steps | rows seen | model, % right | SVM on as many rows, % right |"
    return titled_table(title, f"| setting {head}" if len(curves) > 1 else head, lines)


def rare_table(rare: dict) -> str:
    """Macro-F1 over all classes and over those with the fewest training rows."""
    if not rare:
        return ""
    lines = [
        f"| {name} | {own['all classes']:.3f} | {own['the rarest']:.3f} |"
        for name, own in rare["macro_f1"].items()
    ]
    title = (
        "{term}`Macro-F1 <macro-F1>` by `score`, over all classes and over the rarest of "
        f"training ({', '.join(rare['classes'])}: {rare['rows']} test rows):"
    )
    return titled_table(title, "| | all classes | the rarest |", lines)


def svm_verdicts(metrics: dict) -> dict[str, tuple[str, float]]:
    """How each setting, head and hybrid compares with the linear SVM: in words, and McNemar's p.

    Args:
        metrics: the content of a run's eval/metrics.json.
    """
    from helpers.metrics import score_shares  # slow to load
    from helpers.verdicts import in_words

    right = {name: share["accuracy"] for name, share in score_shares(metrics).items()}
    tests = {pair["a"]: pair["p"] for pair in metrics["mcnemar"] if pair["b"] == "tfidf_svm"}
    return {
        name: (in_words(p, right[name] - right["tfidf_svm"]), p)
        for name, p in tests.items()
        if name in right
    }


def header_table(contest: dict) -> str:
    """Who relies on an article's header: right answers with it and without it."""
    shares = {name: result_cell(one) for name, one in contest.items() if isinstance(one, dict)}
    if not shares or 2 * contest["with_header"] < contest["rows"]:
        return ""  # too few rows have a header for a comparison
    title = (
        f"Right answers on {contest['rows']} test rows of which {contest['with_header']} have a "
        "header, % (95 % Wilson interval):"
    )
    there, gone, never = ", header there", ", header stripped", ", stripped in training too"
    lines = [
        f"| {name.removesuffix(there)} | {share} | {shares[name.removesuffix(there) + gone]} |"
        for name, share in shares.items()
        if name.endswith(there)
    ]
    lines += [
        f"| {name.removesuffix(never)}, trained without headers | | {share} |"
        for name, share in shares.items()
        if name.endswith(never)
    ]
    return titled_table(title, "| | header there | header taken away |", lines)


def decision_table(decisions: dict[str, dict]) -> str:
    """What the thresholds learned on val promised, and what became of it on test."""
    lines = []
    for setting, methods in decisions.items():
        for method, targets in methods.items():
            for row in targets or []:
                threshold = row.get("threshold")
                if threshold is None:
                    continue
                # where no test row reached the threshold, no answer can be wrong
                error = "–" if row["error"] is None else f"{100 * row['error']:.1f}"
                lines.append(
                    f"| {setting}, {method} | {100 * float(row['target']):.0f} | {threshold:.3f} "
                    f"| {100 * row['coverage']:.1f} | {error} |"
                )
    head = "| | promised error, % | threshold | rows answered, % | error among them, % |"
    return titled_table("Answers with a promise:", head, lines)


def cascade_table(cascades: dict[str, list]) -> str:
    """The SVM answers where it is sure: accuracy by the share of rows that the model is asked."""
    right = {}
    for setting, points in cascades.items():
        nearest = [
            min(points, key=lambda point: abs(point[0] - share))
            for share in (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
        ]
        right[setting] = {round(100 * asked): f"{100 * share:.1f}" for asked, share in nearest}
    columns = sorted({asked for shares in right.values() for asked in shares})
    lines = [
        f"| {setting} | {' | '.join(shares.get(asked, '') for asked in columns)} |"
        for setting, shares in right.items()
    ]
    title = (
        "A {term}`cascade`, the SVM first: right answers, %, by the share of rows that the model "
        "was asked:"
    )
    return titled_table(title, f"| | {' | '.join(f'{asked} %' for asked in columns)} |", lines)


def seed_tables() -> str:
    """What the seed alone changes, as Markdown: every setting of profiles/sample-seeds.yml."""
    record = read_results("sample-seeds")
    if record is None:
        return "*Nothing has been recorded yet.*"
    shares = {name: record["metrics"]["models"][name]["generate"] for name in record["trainings"]}
    settings = list(map(without_seed, shares))
    seeds = [training["seed"] for training in record["trainings"].values()]
    right = pd.Series([100 * share["accuracy"] for share in shares.values()], [settings, seeds])
    by_seed = right.unstack(sort=False)  # a line a setting, a column a seed
    table = by_seed.add_prefix("seed ")
    table["mean"], table["standard deviation"] = by_seed.mean(axis=1), by_seed.std(axis=1)
    lines = [
        f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |"
        for name, values in table.iterrows()
    ]
    moved = by_seed.max(axis=1) - by_seed.min(axis=1)
    apart = table["mean"].max() - table["mean"].min()
    verdict = (
        "So a seed moves at least as much as the settings differ, and these figures do not tell "
        "you which setting is the best."
        if moved.max() >= apart
        else "So the settings differ by more than the seed did."
    )
    count = next(iter(shares.values()))["n"]
    trained = record["settings"]["Training"].split(", seed")[0]
    said = (
        f"Measured on {record['date']}: {record['device']}. Each setting trained for {trained}. "
        f"Every share rests on {count} test rows."
    )
    moves = (
        f"The seed alone moved {moved.idxmax()} by {moved.max():.1f} points. The means of the best "
        f"and the worst setting are {apart:.1f} points apart. {verdict}"
    )
    by_setting = titled_table(said, f"| right by generation, % | {' | '.join(table)} |", lines)
    return "\n\n".join([by_setting, moves, against_svm(record["metrics"])])


def against_svm(metrics: dict) -> str:
    """How many trainings beat the linear classifier, alone and with it: one sentence.

    Args:
        metrics: the content of a run's eval/metrics.json.
    """
    said = svm_verdicts(metrics)
    better = {name for name, (words, _) in said.items() if words == "is better than"}
    alone = [name for name in metrics["hybrid"] if name in better]
    together = [name for name in metrics["hybrid"] if f"{name} + svm" in better]
    return (
        f"Of these {len(metrics['hybrid'])} trainings, {len(alone)} alone can be told to be better "
        f"than the linear classifier at 5 %, and {len(together)} together with it (McNemar's "
        "test by scoring, each training by itself)."
    )


def meets(value: float, goal: tuple[str, float]) -> bool:
    """Whether a benchmark's figure meets its goal.

    Args:
        value: the figure.
        goal: ">=" or "<=", and the bound.
    """
    sign, bound = goal
    return value >= bound if sign == ">=" else value <= bound


def benchmark_tables() -> str:
    """What `make bench` recorded, as Markdown: the ratios with their goals, and how cost grows."""
    recorded = read_results("benchmarks")
    if recorded is None:
        return "*Nothing has been measured yet; `make bench` does.*"
    figures = {name: value for part in recorded["figures"].values() for name, value in part.items()}
    lines, met = [], []
    for name, goal in recorded["goals"].items():
        measured, verdict = "not measured there", ""
        if name in figures:
            met.append(meets(figures[name], goal))
            measured, verdict = f"{figures[name]:.3g}", "met" if met[-1] else "missed"
        bound = f"at {'least' if goal[0] == '>=' else 'most'} {goal[1]}"
        lines.append(f"| {name.replace('_', ' ')} | {measured} | {bound} | {verdict} |")
    parts = [
        measured_on(recorded),
        f"Of {len(met)} goals, {met.count(False) or 'none'} "
        f"{'was' if met.count(False) < 2 else 'were'} missed on this machine.",
        markdown_table("| figure | measured | goal | |", lines),
    ]
    return "\n\n".join([*parts, growth_section()])


def growth_section() -> str:
    """How cost grows with rows and with their tokens, as Markdown; empty if it was not recorded."""
    recorded = read_results("growth")
    if recorded is None:
        return ""
    rows = [
        f"| {name.split('_growth')[0]} | {name.rsplit('_', 1)[1]} | {value:.2f} |"
        for name, value in recorded["figures"]["growth"].items()
        if "_growth_over_linear_" in name
    ]
    parts = [
        "## Cost as the work grows",
        f"{measured_on(recorded)} We measured each part at three sizes, each time in a process of "
        "its own. On the left more rows are read, on the right each row is longer.",
        "```{figure} growth.svg\n:alt: Four panels: seconds and peak memory of the parts that "
        "the table below names, over the number of rows and over the tokens of a row; both "
        "scales of the seconds are logarithmic.\n"
        ":name: fig-growth\nSeconds and peak memory of each part. Where ten times the work "
        "takes ten times the seconds, the cost is linear.\n```",
        "The table says how much faster than linear the seconds grow from the smallest to the "
        "largest size. At 1 they grow as the work does. Below 1 a fixed start is shared by "
        "more work. Above 1 something grows with the square, as {term}`attention` does with "
        "length.",
        markdown_table("| work | grows with | over linear |", rows),
    ]
    return "\n\n".join(parts)


def measured_on(recorded: dict) -> str:
    """When and on what a benchmark ran, in one sentence.

    Args:
        recorded: see benchmarks.
    """
    versions = ", ".join(f"{name} {version}" for name, version in recorded["versions"].items())
    said = "Measured on {date}: {machine}, Python {python}".format(**recorded)
    return f"{said}; {versions}."


def full_size_tables() -> str:
    """What the study's models took at full size, as Markdown: one table per profile."""
    kept = read_results("full-size")
    if kept is None:
        return "*It has not been run yet; `python -m benchmarks.full_size` does.*"
    return "\n\n".join(full_size_table(name, record) for name, record in kept.items())


def full_size_most() -> str:
    """The chapter of each model that held most memory at full size, as a table in Markdown."""
    lines = []
    for name, record in (read_results("full-size") or {}).items():
        most = max(record["chapters"], key=lambda line: line["process_gib"])
        expected = most["forecast_gib"] + ASIDE_GIB
        lines.append(
            f"| {name} | {record['weights_gib']:.1f} | {record['max_length']:,} "
            f"| {most['chapter']} | {expected:.1f} | {most['process_gib']:.1f} |"
        )
    columns = "profile, weights GiB, tokens a row, chapter, forecast GiB, measured GiB"
    head = f"| {columns.replace(', ', ' | ')} |"
    return markdown_table(head, lines) if lines else ""


def full_size_table(name: str, record: dict) -> str:
    """One profile's chapters: forecast, measured peak and seconds, as Markdown.

    Args:
        name: of the profile.
        record: see benchmarks.full_size.
    """
    own, used = record["own_max_length"], record["max_length"]
    shorter = f" in place of the profile's {own:,}" if used < own else ", as the profile says"
    said = (
        f"**{name}**, {record['weights_gib']:.1f} GiB of weights in {record['dtype']}, rank "
        f"{record['rank']}, rows of at most {used:,} tokens{shorter}. {measured_on(record)}"
    )
    lines = []
    for line in record["chapters"]:
        expected, peak = line["forecast_gib"] + ASIDE_GIB, line["process_gib"]
        off = round(100 * (peak / expected - 1))
        lines.append(
            f"| {line['chapter']} | {line['forecast_gib']:.1f} | {expected:.1f} | {peak:.1f} "
            f"| {f'{off:+d}' if off else 0} | {line['peak_gib']:.1f} "
            f"| {line['seconds']:.0f} |"
        )
    head = (
        "| chapter | forecast, GiB | and 1 for Python | measured | off by, % | all processes "
        "| seconds |"
    )
    return titled_table(said, head, lines)
