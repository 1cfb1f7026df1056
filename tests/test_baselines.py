"""The classifiers without a language model, on texts whose answer is plain to see."""

from helpers import baselines


def row(text, label):
    return {"text": text, "category": ["Art", "Law"], "output": label}


def test_the_svm_learns_and_answers_with_an_option_of_the_row():
    train = [row("法院判决法院", "Law"), row("画展开幕画展", "Art"), row("法院开庭法院", "Law"), row("油画画展画展", "Art")]
    guesses, seconds = baselines.svm_baseline(train, [row("法院", None), row("画展", None), {**row("法院", None), "category": ["Art"]}])
    assert guesses == ["Law", "Art", "Art"] and seconds > 0


def test_the_majority_is_counted_among_the_options_of_the_row():
    train = [row("", "Law"), row("", "Law"), row("", "Art")]
    assert baselines.majority_baseline(train, [row("", None), {**row("", None), "category": ["Art", "Mine"]}]) == ["Law", "Art"]


def test_cross_validation_never_learns_from_a_copy():
    """Every text stands there twice and shares nothing with the others: only its copy could tell its label."""
    pairs = [("甲乙丙丁", "Art"), ("戊己庚辛", "Law"), ("壬癸子丑", "Art"), ("寅卯辰巳", "Law"), ("午未申酉", "Art"), ("戌亥天地", "Law")]
    rows, clusters = [row(*pair) for pair in pairs for _ in range(2)], [i for i in range(len(pairs)) for _ in range(2)]
    copies_apart = [place % 2 for place in range(len(rows))]
    assert all(baselines.cross_validated(rows, copies_apart))
    assert sum(baselines.cross_validated(rows, clusters)) < len(rows) * 0.75
    assert baselines.cross_validated(rows, [0] * len(rows)) == []
