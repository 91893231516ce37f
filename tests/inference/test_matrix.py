"""What methods say they take, and the page of the documentation that lists it."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from dynapilco.core.errors import UserError
from dynapilco.inference import LIKELIHOODS, METHODS, PRIORS, MCDropout
from dynapilco.inference.examples import EXAMPLES
from dynapilco.inference.matrix import supported

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class DenseOnly(MCDropout):
    def refusal(self, model):
        return None if model.network.dense_plan is not None and model.prior.gaussian else "only plain stacks, normal"


@pytest.mark.parametrize("name", list(METHODS))
def test_every_architecture_prior_and_likelihood_is_asked_about(name):
    rows = supported(name)
    assert [row.name for row in rows if row.part == "architecture"] == list(EXAMPLES)
    assert [row.name for row in rows if row.part == "prior"] == list(PRIORS)
    assert [row.name for row in rows if row.part == "likelihood"] == list(LIKELIHOODS)
    assert all(row.reason is None or len(row.reason) > 10 for row in rows)


def test_a_refusal_is_reported_with_its_reason():
    rows = {(row.part, row.name): row.reason for row in supported(DenseOnly())}
    assert rows["architecture", "MLP"] is None
    assert rows["architecture", "Conv1d"] == rows["prior", "laplace"] == "only plain stacks, normal"
    assert rows["prior", "fan_in_normal"] is None


def test_unknown_methods_are_named():
    with pytest.raises(UserError, match="did you mean mc_dropout"):
        supported("mc_dropot")


def test_the_page_of_the_documentation_is_up_to_date():
    # in a process of its own: tests and doctests register methods and priors too
    code = [sys.executable, "-m", "dynapilco.inference.matrix"]
    page = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    held = (ROOT / "docs" / "reference" / "inference-matrix.md").read_text()
    assert page == held, f"run: {' '.join(['python', *code[1:]])} > docs/reference/inference-matrix.md"
