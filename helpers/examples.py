"""Single rows on a page: what a model wrote, its surest mistakes, labels that may be wrong."""

import pandas as pd

CERTAIN = "The sample's labels are right by construction, so each of these is the model's own."
DISPUTABLE = "Some may be labels that a reader would dispute."
FALSE_ALARMS = (
    "On the packaged sample every label is right, so each suspect is a false alarm. How many there "
    "are shows how far such a list can be trusted."
)
TO_READ = "Read an article before you change its label, for some of them are false alarms."


def written_table(rows: list[dict], texts: list[str], show_text: bool) -> pd.DataFrame:
    """What a model wrote beside the labels; without text only its length and kind.

    Args:
        rows: that it was asked about.
        texts: what it wrote, one a row.
        show_text: whether articles may be shown: a model can repeat one.
    """
    kinds = []
    for row, text in zip(rows, texts):
        begins = text.strip().startswith(tuple(row["category"]))
        kind = "begins with an option" if begins else "not an option"
        kinds.append("an option" if text.strip() in row["category"] else kind)
    labels = [row["output"] for row in rows]
    shown = {"what it wrote": texts} if show_text else {"characters": list(map(len, texts))}
    return pd.DataFrame({"label": labels, **shown, "kind": kinds})


def mistakes(
    rows: list[dict], confidence: pd.DataFrame, guesses: list, show_text: bool
) -> pd.DataFrame:
    """The eight surest of a model's mistakes.

    Args:
        rows: that were asked.
        confidence: see metrics.confidence.
        guesses: the model's answers.
        show_text: whether the beginnings of articles may be shown.
    """
    table = pd.DataFrame(
        {
            "id": [row["id"] for row in rows],
            "label": [row["output"] for row in rows],
            "answer": guesses,
            "probability": confidence["probability"],
        }
    )
    if show_text:
        table["article"] = [snippet(row["text"]) for row in rows]
    wrong = table[~confidence["right"].to_numpy(bool)]
    wrong = wrong.sort_values("probability", ascending=False, kind="stable").head(8)
    return wrong.round({"probability": 3})


def suspect_table(suspects: pd.DataFrame, train: list[dict], show_text: bool) -> pd.DataFrame:
    """The first ten candidates for wrong labels, for people.

    Args:
        suspects: see audit.suspects; has a column "id".
        train: the rows that were looked through.
        show_text: whether the beginnings of articles may be shown.
    """
    names = {"label": "label", "suggested": "suggested", "self_confidence": "label's probability"}
    own = suspects.head(10).set_index("id")
    if "source_id" in own and own["source_id"].notna().any():
        names = {"source_id": "source's id"} | names
    table = own[list(names)].rename(columns=names)
    if show_text:
        texts = {row["id"]: snippet(row["text"], 32) for row in train}
        table["article"] = [texts[key] for key in table.index]
    return table.round(3)


def snippet(text: str, characters: int = 60) -> str:
    """The beginning of an article on one line."""
    line = " ".join(text.split())
    return line[:characters] + ("…" if len(line) > characters else "")


def labels_note(source: str | list[str] | None) -> str:
    """One sentence on how far labels are to be trusted.

    Args:
        source: where the rows came from, None where it is not known; those of the packaged sample
            have labels that are known to be right.
    """
    return CERTAIN if source == "sample" else DISPUTABLE


def suspects_note(source: str | list[str] | None) -> str:
    """What to do with a list of labels that may be wrong, in a sentence or two.

    Args:
        source: see `labels_note`.
    """
    return FALSE_ALARMS if source == "sample" else TO_READ
