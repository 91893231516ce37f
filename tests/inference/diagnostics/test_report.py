"""Reports: every field is the score of that name, and the table shows it."""

import dataclasses
import math

import pytest
import torch

from dynapilco.core.errors import UserError
from dynapilco.inference import diagnostics
from dynapilco.inference.diagnostics import classification_report, plot_decision_boundary, regression_report, robustness
from dynapilco.inference.predictive import predictive_of


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_report_of_a_calibrated_gaussian(regression_problem):
    predictive, y = regression_problem
    report = regression_report(predictive, y, generator(1), levels=(0.5, 0.9), samples=200)
    std = predictive.sd
    assert report.nll == pytest.approx(float(diagnostics.nll_gaussian(predictive.mean, std, y)))
    assert report.rmse == pytest.approx(float(diagnostics.rmse(predictive.mean, y)))
    assert report.crps == pytest.approx(float(diagnostics.crps_gaussian(predictive.mean, std, y)), rel=0.01)
    for (level, found), expected in zip(report.coverage, (0.5, 0.9), strict=True):
        assert level == expected
        assert abs(found - expected) < 4 * math.sqrt(expected * (1 - expected) / y.numel())
    assert report.calibration_error < 1e-3  # about 0.17 / 2000 is expected
    g = generator(1)
    values = diagnostics.pit(predictive.sample(200, g), y, g)
    assert report.calibration_error == pytest.approx(float(diagnostics.calibration_error(values)))
    variance = predictive.epistemic.mean()
    assert report.epistemic == pytest.approx(math.sqrt(variance))
    assert report.aleatoric == pytest.approx(math.sqrt(3 * variance))
    assert report.sharpness == pytest.approx(math.sqrt(4 * variance))
    assert report == regression_report(predictive, y, generator(1), levels=(0.5, 0.9), samples=200)


def test_overconfidence_shows_in_the_report(regression_problem):
    predictive, y = regression_problem
    bold = dataclasses.replace(predictive, epistemic=predictive.epistemic / 9, aleatoric=predictive.aleatoric / 9)
    honest, bold = (regression_report(p, y, generator(), samples=100) for p in (predictive, bold))
    assert bold.coverage[1][1] < 0.5
    assert bold.calibration_error > 10 * honest.calibration_error
    assert bold.nll > honest.nll and bold.crps > honest.crps


def test_the_report_of_a_classifier(blobs):
    x, labels, predict = blobs
    predictive = predict(x)
    report = classification_report(predictive, labels)
    p = predictive.probabilities
    for name in ("nll_categorical", "accuracy", "brier", "ece", "auroc_macro"):
        field = {"nll_categorical": "nll", "auroc_macro": "auroc"}.get(name, name)
        assert getattr(report, field) == pytest.approx(float(getattr(diagnostics, name)(p, labels))), name
    assert report.ece_mass == pytest.approx(float(diagnostics.ece(p, labels, kind="mass")))
    assert report.epistemic == pytest.approx(float(predictive.epistemic.mean()))
    assert (report.examples, report.classes) == (150, 3)
    assert classification_report(predict(x[labels > 0]), labels[labels > 0]).auroc is None


def test_the_auroc_of_two_classes_is_that_of_class_one(class_predictive):
    first = torch.tensor([0.9, 0.2, 0.4, 0.7])
    report = classification_report(
        class_predictive(torch.stack([1 - first, first], 1)[None]), torch.tensor([1, 0, 1, 0])
    )
    assert report.auroc == 0.75


def test_the_tables_show_all_scores(regression_problem, blobs):
    predictive, y = regression_problem
    report = regression_report(predictive, y, generator(), samples=50)
    text = str(report)
    for value in (report.nll, report.rmse, report.crps, report.sharpness, report.coverage[2][1]):
        assert f"{value:.4g}" in text
    assert "coverage of 0.95" in text and "2000 examples" in text
    x, labels, predict = blobs
    text = str(classification_report(predict(x[labels > 0]), labels[labels > 0]))
    assert "undefined" in text and "a class has no example" in text
    assert len({line.index("nats") for line in text.splitlines() if line.endswith(("entropy", "information"))}) == 1


def test_reports_are_frozen(blobs):
    x, labels, predict = blobs
    with pytest.raises(dataclasses.FrozenInstanceError):
        classification_report(predict(x), labels).nll = 0.0


def test_bad_predictives_are_named(regression_problem):
    predictive, y = regression_problem
    with pytest.raises(UserError, match="levels is"):
        regression_report(predictive, y, generator(), levels=(1.0,))
    with pytest.raises(UserError, match="samples is 1"):
        regression_report(predictive, y, generator(), samples=1)
    with pytest.raises(UserError, match=r"predictive.mean has shape"):
        regression_report(predictive, y[:, :1], generator())
    nan = dataclasses.replace(predictive, mean=predictive.mean.clone())
    nan.mean[3] = torch.nan
    with pytest.raises(UserError, match=r"predictive.mean has 2 NaN and 0 infinite of 4000"):
        regression_report(nan, y, generator())
    nan = dataclasses.replace(predictive)
    nan.log_prob = lambda y: torch.full((len(y),), torch.nan)
    with pytest.raises(UserError, match=r"predictive.log_prob\(y\) has 2000 NaN of 2000"):
        regression_report(nan, y, generator())
    nan.log_prob = lambda y: torch.zeros_like(y)
    with pytest.raises(UserError, match=r"predictive.log_prob\(y\) has shape \(2000, 2\): expected \(2000,\)"):
        regression_report(nan, y, generator())


def test_the_library_s_own_predictives_are_understood():
    g = generator(5)
    x, functions = torch.randn(300, 2, generator=g), torch.randn(16, 2, 1, generator=g)

    def predict(points):
        return predictive_of(torch.distributions.Normal(points @ functions, torch.tensor(0.5)), g)

    rows = torch.arange(len(x))
    y = predict(x).sample(len(x), g)[rows, rows]  # a function for each row: one sample has one function for all rows
    report = regression_report(predict(x), y, g)
    assert abs(report.coverage[1][1] - 0.9) < 4 * math.sqrt(0.09 / len(x)) and report.aleatoric == pytest.approx(0.5)
    assert robustness(predict, x, y, [0.0], g)[0].nll == pytest.approx(report.nll)

    def classify(points):
        return predictive_of(torch.distributions.Bernoulli(logits=3 * points @ functions), g)

    def classify_both(points):
        logits = 3 * points @ functions
        return predictive_of(torch.distributions.Categorical(logits=torch.stack([0 * logits, logits], -1)), g)

    labels = (x[:, 0] > 0).long()
    one, both = (classification_report(f(x), labels) for f in (classify, classify_both))
    assert dataclasses.astuple(one) == pytest.approx(dataclasses.astuple(both), rel=1e-4, abs=1e-6)
    assert robustness(classify, x, labels, [0.0], g)[0].nll == pytest.approx(one.nll)
    assert plot_decision_boundary(classify, x, labels, resolution=5).axes
