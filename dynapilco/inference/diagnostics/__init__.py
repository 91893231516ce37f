"""Scores, calibration, convergence and pictures of predictive distributions: pure functions on tensors.

>>> import torch
>>> from dynapilco.inference.diagnostics import crps_gaussian, rhat
>>> zero, one = torch.zeros(1, 1), torch.ones(1, 1)
>>> round(float(crps_gaussian(mean=zero, std=one, y=zero)), 4)
0.2337
>>> chains = torch.randn(4, 500, 2, generator=torch.Generator().manual_seed(0))
>>> bool((rhat(chains) < 1.01).all())
True
"""

from dynapilco.inference.diagnostics.calibration import (
    LEVELS,
    calibration_error,
    cdf_gaussian_mixture,
    coverage_curve,
    interval_coverage,
    pit,
    pit_from_cdf,
    quantile_curve,
)
from dynapilco.inference.diagnostics.chains import ess_bulk, ess_tail, mcse_mean, rhat, split_rhat
from dynapilco.inference.diagnostics.classification import (
    ReliabilityBins,
    accuracy,
    auroc,
    auroc_macro,
    brier,
    ece,
    nll_categorical,
    reliability_bins,
)
from dynapilco.inference.diagnostics.corruption import CORRUPTIONS, RobustnessRow, robustness
from dynapilco.inference.diagnostics.plots import (
    plot_bands,
    plot_calibration,
    plot_pit,
    plot_reliability,
    plot_robustness,
)
from dynapilco.inference.diagnostics.plots_classes import plot_decision_boundary, plot_uncertainty_area
from dynapilco.inference.diagnostics.protocols import ClassificationPredictive, RegressionPredictive
from dynapilco.inference.diagnostics.regression import (
    crps_gaussian,
    crps_gaussian_mixture,
    crps_samples,
    moment_match,
    nll_gaussian,
    nll_mixture,
    rmse,
    sharpness,
)
from dynapilco.inference.diagnostics.report import (
    ClassificationReport,
    RegressionReport,
    classification_report,
    regression_report,
)

__all__ = [
    "CORRUPTIONS",
    "LEVELS",
    "ClassificationPredictive",
    "ClassificationReport",
    "RegressionPredictive",
    "RegressionReport",
    "ReliabilityBins",
    "RobustnessRow",
    "accuracy",
    "auroc",
    "auroc_macro",
    "brier",
    "calibration_error",
    "cdf_gaussian_mixture",
    "classification_report",
    "coverage_curve",
    "crps_gaussian",
    "crps_gaussian_mixture",
    "crps_samples",
    "ece",
    "ess_bulk",
    "ess_tail",
    "interval_coverage",
    "mcse_mean",
    "moment_match",
    "nll_categorical",
    "nll_gaussian",
    "nll_mixture",
    "pit",
    "pit_from_cdf",
    "plot_bands",
    "plot_calibration",
    "plot_decision_boundary",
    "plot_pit",
    "plot_reliability",
    "plot_robustness",
    "plot_uncertainty_area",
    "quantile_curve",
    "regression_report",
    "reliability_bins",
    "rhat",
    "rmse",
    "robustness",
    "sharpness",
    "split_rhat",
]
