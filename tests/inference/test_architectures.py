"""The matrix: every method on every architecture, prior and likelihood; what is refused raises a ``UserError``."""

import pytest

from dynapilco.core.errors import UserError
from dynapilco.inference import LIKELIHOODS, METHODS, PRIORS, ModuleDraw
from dynapilco.inference.examples import EXAMPLES
from dynapilco.inference.matrix import supported
from tests.inference.architectures import MANDATORY, run, variants

NAMES = list(METHODS)
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")


def fits_or_refuses(name, options, *parts, **more):
    """Whether the method took these parts; a refusal has to give a reason."""
    reason = None
    try:
        run(name, options, *parts, **more)
    except UserError as refusal:
        reason = str(refusal)
    assert reason is None or len(reason) > 20
    return reason is None


@pytest.mark.parametrize("architecture", EXAMPLES)
@pytest.mark.parametrize("name", NAMES)
def test_architectures(name, architecture):
    taken = fits_or_refuses(name, variants(name)[0], EXAMPLES[architecture])
    assert taken or architecture not in MANDATORY


@pytest.mark.parametrize(
    ("name", "options"), [(name, options) for name in NAMES for options in variants(name)[1:]], ids=str
)
@pytest.mark.parametrize("architecture", ["Conv2d", "TransformerEncoder", "tied weights"])
def test_variants_of_methods(name, options, architecture):
    fits_or_refuses(name, options, EXAMPLES[architecture])


@pytest.mark.parametrize("prior", list(PRIORS))
@pytest.mark.parametrize("name", NAMES)
def test_priors(name, prior):
    fits_or_refuses(name, variants(name)[0], EXAMPLES["LayerNorm"], prior=prior)


@pytest.mark.parametrize("likelihood", list(LIKELIHOODS))
@pytest.mark.parametrize("name", NAMES)
def test_likelihoods(name, likelihood):
    fits_or_refuses(name, variants(name)[0], EXAMPLES["LayerNorm"], likelihood=likelihood)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_method_says_that_it_takes_it_takes(name):
    """``refusal`` and the fit agree, for the architectures that a method may refuse."""
    rows = [row for row in supported(name) if row.part == "architecture" and row.name not in MANDATORY]
    assert rows
    for row in rows:
        assert fits_or_refuses(name, variants(name)[0], EXAMPLES[row.name], steps=2) == (row.reason is None)


def test_the_checks_can_fail(monkeypatch):
    """A draw whose functions change from call to call is caught."""
    calm, calls = ModuleDraw.evaluate, []

    def restless(self, x):
        calls.append(1)
        return calm(self, x) + 1e-3 * len(calls)

    monkeypatch.setattr(ModuleDraw, "evaluate", restless)
    with pytest.raises(AssertionError):
        run("adam", {"members": 2}, EXAMPLES["Conv1d"])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("architecture", EXAMPLES)
@pytest.mark.parametrize("name", NAMES)
def test_the_full_product(name, architecture):
    """All variants of a method, priors and likelihoods; a refusal gives a reason, and nothing else is raised."""
    for options in variants(name):
        for prior in PRIORS:
            for likelihood in LIKELIHOODS:
                fits_or_refuses(name, options, EXAMPLES[architecture], likelihood, prior, steps=2, wild=True)
