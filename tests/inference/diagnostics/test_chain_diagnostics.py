"""R-hat and effective sample sizes against ArviZ (where installed) and against chains of known autocorrelation."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from dynapilco.core.errors import UserError
from dynapilco.inference.diagnostics import ess_bulk, ess_tail, mcse_mean, rhat, split_rhat

FUNCTIONS = {"split_rhat": split_rhat, "rhat": rhat, "ess_bulk": ess_bulk, "ess_tail": ess_tail, "mcse": mcse_mean}


def autoregressive(phi, chains, draws, quantities, seed=0):
    """Stationary AR(1) chains of unit variance (C, T, Q), whose ESS of the mean is C T (1 - phi) / (1 + phi)."""
    noise = np.random.default_rng(seed).standard_normal((chains, draws + 200, quantities)) * math.sqrt(1 - phi**2)
    return torch.from_numpy(lfilter([1.0], [1.0, -phi], noise, axis=1)[:, 200:].copy())


def cases():
    odd = autoregressive(0.5, 3, 101, 1, 5)
    apart = autoregressive(0.3, 4, 200, 1, 6) + torch.arange(4.0, dtype=torch.float64)[:, None, None]
    scales = autoregressive(0.3, 4, 200, 1, 7) * torch.tensor([1.0, 1.0, 1.0, 4.0]).double()[:, None, None]
    cauchy = torch.from_numpy(np.random.default_rng(8).standard_cauchy((4, 300, 1)))
    counts = autoregressive(0.6, 4, 250, 1, 9).mul(1.5).round()
    drift = autoregressive(0.1, 2, 300, 1, 10) + torch.linspace(0, 2, 300).double()[:, None]
    named = {"odd": odd, "apart": apart, "scales": scales, "cauchy": cauchy, "counts": counts, "drift": drift}
    phis = {f"ar{phi}": autoregressive(phi, 4, 500, 1, 11) for phi in (-0.5, 0.0, 0.9)}
    return {**named, **phis, "one chain": autoregressive(0.4, 1, 400, 1, 12)}


CASES = cases()


@pytest.mark.parametrize("name", list(CASES))
def test_all_are_those_of_arviz(name):
    arviz = pytest.importorskip("arviz")
    array = CASES[name][..., 0].numpy()
    expected = {
        "split_rhat": arviz.rhat(array, method="split"),
        "rhat": arviz.rhat(array, method="rank"),
        "ess_bulk": arviz.ess(array, method="bulk"),
        "ess_tail": arviz.ess(array, method="tail"),
        "mcse": arviz.mcse(array, method="mean"),
    }
    if len(array) == 1:  # ArviZ gives no R-hat for one chain, although it splits it
        del expected["split_rhat"], expected["rhat"]
    for key in expected:
        assert float(FUNCTIONS[key](CASES[name])) == pytest.approx(float(expected[key]), rel=1e-8), key


@pytest.mark.parametrize("phi", [-0.4, 0.0, 0.5, 0.9])
def test_the_sample_size_of_an_autoregressive_chain_is_the_known_one(phi):
    chains, draws, quantities = 4, 2000, 20
    values = autoregressive(phi, chains, draws, quantities)
    truth = chains * draws * (1 - phi) / (1 + phi)
    # One estimate scatters by about 10 % here; the mean of 20 by less than 3 %.
    assert float(ess_bulk(values).mean()) == pytest.approx(truth, rel=0.08)
    error = mcse_mean(values)
    assert float(error.mean()) == pytest.approx(1 / math.sqrt(truth), rel=0.05)
    z = values.mean((0, 1)) / error
    assert 0.3 < float(z.square().mean()) < 2.3  # chi-square with 20 degrees of freedom: 0.1 % to 99.9 %
    # R-hat - 1 is near half the variance of the 8 half-chain means, 8/size times chi-square/7: the most of 40 is < 4.
    # The folded values of a Gaussian chain are correlated by phi^2 or so.
    size = min(truth, chains * draws * (1 - phi**2) / (1 + phi**2))
    assert float(rhat(values).max()) < 1 + 16 / size


def test_r_hat_sees_what_it_should():
    assert float(split_rhat(CASES["apart"])) > 1.3 and float(rhat(CASES["apart"])) > 1.3
    assert float(split_rhat(CASES["scales"])) < 1.02 < 1.05 < float(rhat(CASES["scales"]))  # folding sees the scale
    assert float(split_rhat(CASES["drift"])) > 1.1  # splitting sees the drift


def test_a_quantity_that_never_moves_is_nan_and_does_not_disturb_the_others():
    values = torch.cat([CASES["counts"], torch.full_like(CASES["counts"], 0.1)], -1)
    for function in FUNCTIONS.values():
        found = function(values)
        assert found[1].isnan()
        torch.testing.assert_close(found[:1], function(CASES["counts"]))


def test_chains_stuck_at_different_values_are_seen():
    values = torch.tensor([0.1, 0.7, 0.3])[:, None, None].expand(3, 100, 1)
    assert float(split_rhat(values)) > 1e3 and float(rhat(values)) > 1e3
    assert float(ess_bulk(values)) < 10


def test_two_valued_quantities_have_numbers():
    values = (CASES["ar0.0"] > 0).double()
    assert 0.99 < float(rhat(values)) < 1.01
    assert float(ess_tail(values)) == pytest.approx(2000, rel=0.2)


def test_a_two_valued_quantity_that_is_constant_when_folded_has_an_r_hat():
    """As many zeros as ones have the median 1/2, at equal distance from all draws."""
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    assert 0.98 < float(rhat((order % 2).double().reshape(4, 100))) < 1.02


def test_antithetic_chains_do_not_claim_an_unlimited_sample_size():
    values = autoregressive(-0.999, 4, 500, 1)
    assert float(ess_bulk(values)) == pytest.approx(2000 * math.log10(2000))


def test_shapes_follow_the_quantities_and_ranks_make_monotone_maps_not_matter():
    values = autoregressive(0.3, 3, 60, 6).reshape(3, 60, 2, 3)
    for function in FUNCTIONS.values():
        assert function(values).shape == (2, 3) and function(values).dtype == torch.float64
        assert function(values[..., 0, 0]).shape == ()
        torch.testing.assert_close(function(values)[1, 2], function(values[..., 1, 2]))
    torch.testing.assert_close(ess_bulk(values.exp()), ess_bulk(values))
    torch.testing.assert_close(ess_tail(values.exp()), ess_tail(values))
    torch.testing.assert_close(mcse_mean(7 * values - 3), 7 * mcse_mean(values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(4, 3, 1), "at least 4 draws"),
        (torch.zeros(10), r"values has shape \(10,\)"),
        (torch.full((2, 10), torch.nan), "values has 20 NaN"),
        (torch.zeros(2, 10, dtype=torch.long), "values is torch.int64"),
    ],
)
def test_bad_input_is_named(values, message):
    for function in FUNCTIONS.values():
        with pytest.raises(UserError, match=message):
            function(values)
