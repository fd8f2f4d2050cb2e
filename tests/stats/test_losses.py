"""Are losses right, and do their sums add up in any order? (# MON-13 MON-14)"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from perennial.errors import InvalidArgument
from perennial.frames import Table
from perennial.stats.classification import ClassificationSums
from perennial.stats.errors import DAY_US, ErrorProfile, classification_errors, regression_errors
from perennial.stats.losses import UNIT, PairedSums, RegressionSums, fixed_sum, log_losses
from sklearn import metrics

NUMBERS = st.floats(-1e7, 1e7, allow_subnormal=False)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=60)
CLASSES = ("no", "yes")


@given(values=st.lists(st.floats(-1e12, 1e12), max_size=50), seed=st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_sums_do_not_depend_on_order_or_grouping(values: list[float], seed: int) -> None:
    """Any order and any cut give the same integer, near the true sum."""
    numbers = np.array(values)
    mixed = np.random.default_rng(seed).permutation(numbers)
    cut = len(values) // 3
    assert fixed_sum(numbers) == fixed_sum(mixed) == fixed_sum(numbers[:cut]) + fixed_sum(numbers[cut:])
    assert fixed_sum(numbers) / UNIT == pytest.approx(float(np.sum(numbers)), rel=1e-6, abs=1e-3)


@given(pairs=PAIRS)
@settings(max_examples=100, deadline=None)
def test_regression_figures_are_scikit_learns(pairs: list[tuple[float, float]]) -> None:
    """Mae and rmse agree with sklearn; bias is the mean of prediction - truth."""
    truth, prediction = np.array(pairs).T
    found = RegressionSums.of(truth, prediction).figures()
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(truth, prediction), rel=1e-9, abs=1e-9)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, prediction), rel=1e-9, abs=1e-6)
    assert found["bias"] == pytest.approx(float(np.mean(prediction - truth)), rel=1e-6, abs=1e-6)


@given(pairs=PAIRS)
@settings(max_examples=60, deadline=None)
def test_a_correction_takes_the_first_value_out_whole(pairs: list[tuple[float, float]]) -> None:
    """Merged and taken out again leaves nothing behind, and plain values carry sums through JSON."""
    first = RegressionSums.of(*np.array(pairs).T)
    other = RegressionSums.of(np.array([1.0]), np.array([2.5]))
    assert first.merged(other).minus(other) == first
    assert RegressionSums.from_json(json.loads(json.dumps(first.to_json()))) == first
    paired = PairedSums.of(*np.abs(np.array(pairs).T))
    assert paired.merged(paired).minus(paired) == paired == PairedSums.from_json(paired.to_json())


def scored(rows: int, classes: int, seed: int) -> tuple[list[str], np.ndarray, tuple[str, ...]]:
    random = np.random.default_rng(seed)
    names = CLASSES if classes == 2 else tuple(f"k{i}" for i in range(classes))
    truth = random.integers(0, classes, rows)
    score = random.gamma(1, 1, (rows, classes))
    score[np.arange(rows), truth] += random.gamma(2, 0.5, rows)
    return [names[t] for t in truth], score / score.sum(axis=1, keepdims=True), names


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("seed", [1, 2])
def test_classification_figures_are_scikit_learns(classes: int, seed: int) -> None:
    """Log-loss, accuracy, precision, recall and F1 agree to 1e-9, AUC to the width of its bins."""
    labels, given_, names = scored(3000, classes, seed)
    found = ClassificationSums.of(labels, given_, names).figures()
    truth = np.array([names.index(label) for label in labels])
    answer = given_.argmax(axis=1)
    average = "binary" if classes == 2 else "macro"
    expected = {
        "log_loss": metrics.log_loss(truth, given_),
        "accuracy": metrics.accuracy_score(truth, answer),
        "precision": metrics.precision_score(truth, answer, average=average),
        "recall": metrics.recall_score(truth, answer, average=average),
        "f1": metrics.f1_score(truth, answer, average=average),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    area = metrics.roc_auc_score(truth, given_[:, 1] if classes == 2 else given_, multi_class="ovr")
    assert found["auc"] == pytest.approx(area, abs=0.002)


def test_auc_is_exact_where_scores_are_rounded_to_its_bins() -> None:
    """On a grid of 1/200 nothing is lost."""
    random = np.random.default_rng(0)
    score = (random.integers(0, 200, 500) + 0.5) / 200
    truth = random.random(500) < score
    found = ClassificationSums.of(np.where(truth, "yes", "no"), np.column_stack([1 - score, score]), CLASSES).figures()
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(truth, score), abs=1e-12)


def test_classification_sums_add_up() -> None:
    """Blocks merged are the whole; a correction comes out; JSON carries them."""
    labels, given_, names = scored(400, 3, 7)
    whole = ClassificationSums.of(labels, given_, names)
    parts = [ClassificationSums.of(labels[a : a + 90], given_[a : a + 90], names) for a in range(0, 400, 90)]
    merged = ClassificationSums.empty(names)
    for part in reversed(parts):
        merged = merged.merged(part)
    assert merged.to_json() == whole.to_json()
    assert ClassificationSums.from_json(json.loads(json.dumps(whole.to_json()))).figures() == whole.figures()
    assert whole.minus(parts[0]).count == 310


def test_one_class_alone_has_no_auc() -> None:
    """A block without a counterpart leaves AUC out and answers the rest."""
    found = ClassificationSums.of(["yes", "yes"], np.array([[0.2, 0.8], [0.6, 0.4]]), CLASSES).figures()
    assert "auc" not in found
    assert found["recall"] == 0.5


@pytest.mark.parametrize(
    ("labels", "given_"),
    [(["maybe"], [[0.5, 0.5]]), (["no"], [[0.5]]), (["no"], [[np.nan, 1]]), (["no"], [[-0.1, 1.1]]), (["no"], [[0, 0]])],
)
def test_what_is_no_probability_is_refused(labels: list[str], given_: list[list[float]]) -> None:
    """Unknown labels, wrong shapes, NaN, negative and all-zero rows are said, not counted."""
    with pytest.raises(InvalidArgument):
        log_losses(labels, np.array(given_), CLASSES)


def test_an_error_profile_is_cut_by_day() -> None:
    """Days' means are those of their rows; the chart is fed the signed residual."""
    stamps = np.array([0, 1, DAY_US, DAY_US + 5], np.int64)
    profile = regression_errors(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.0, 5.0, 5.0]), stamps)
    assert profile.block_means == (1.5, -1.5)
    assert profile.losses == (1.5, 1.5)
    assert profile.chart_value(0.7, 9.0) == 0.7
    assert ErrorProfile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


def test_an_error_profile_of_classes_charts_the_log_loss_against_its_mean() -> None:
    """Residuals of the log-loss average to zero over the reference."""
    labels, given_, _ = scored(200, 2, 3)
    outputs = Table.of({"p:no": given_[:, 0], "p:yes": given_[:, 1], "label": labels})
    profile = classification_errors(labels, outputs, CLASSES, np.arange(200, dtype=np.int64) * (DAY_US // 20))
    assert np.average(profile.block_means, weights=profile.counts) == pytest.approx(0, abs=1e-12)
    assert profile.mean_loss == pytest.approx(metrics.log_loss(labels, given_), abs=1e-12)
    assert profile.chart_value(0.0, profile.mean_loss + 0.25) == pytest.approx(0.25)
